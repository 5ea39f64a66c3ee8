"""X and y as scikit-learn's users give them: sequences, and what belongs to each.

T time · F features · V targets.
"""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data


def sequences_of(estimator: BaseEstimator, X: Any, *, reset: bool) -> tuple[list[np.ndarray], bool]:
    """The sequences in X, float32 (T, F) each, and whether X is a table.

    Args:
        estimator: for its name in messages, and for ``n_features_in_`` and ``feature_names_in_``.
        X: (n, T, F) numbers; a list of n arrays (T_i, F), or (T_i,) where F = 1; or a table (n, T) of one feature, a column a step.
        reset: whether the features are learned, as in ``fit``; else they are compared with those of ``fit``.

    Raises:
        ValueError: X has another form, other features than in ``fit``, NaN, or infinite numbers.
    """
    if _is_table(X):
        return _rows(estimator, X, reset=reset), True
    arrays = [_sequence(x, f"X[{i}]") for i, x in enumerate(X)]
    if not arrays:
        raise ValueError("Found array with 0 sample(s): X is empty; expected at least one sequence.")
    widths = sorted({x.shape[1] for x in arrays})
    if len(widths) > 1:
        raise ValueError(f"the sequences of X have {widths[0]} to {widths[-1]} features; expected the same number in each of them.")
    _check_features(estimator, widths[0], reset=reset)
    return arrays, False


def _is_table(X: Any) -> bool:
    """Whether X has two axes or fewer, as all that scikit-learn knows by itself; it has the sentences about what is wrong there."""
    if isinstance(X, np.ndarray) and X.dtype.kind == "O" and X.ndim == 1:
        X = list(X)
    if not isinstance(X, (list, tuple)):
        return getattr(X, "ndim", 2) != 3
    axes = {np.ndim(x) if hasattr(x, "ndim") or not isinstance(x, (list, tuple)) else 1 + _depth(x) for x in X}
    return not X or axes <= {0} or (axes == {1} and len({len(x) for x in X}) == 1)


def _depth(x: Any) -> int:
    """How many axes the first number of some nested lists has below it."""
    return 0 if not len(x) else (1 + _depth(x[0]) if isinstance(x[0], (list, tuple)) else int(np.ndim(x[0])))


def _rows(estimator: BaseEstimator, X: Any, *, reset: bool) -> list[np.ndarray]:
    if not reset and not getattr(estimator, "_from_table", True):
        raise ValueError(
            "X has two axes, and the estimator was fitted on sequences; expected (n, T, features) or a list of arrays (T, features). "
            "Reshape your data: X[:, :, None] if it has one feature."
        )
    table = np.asarray(validate_data(estimator, X, dtype=np.float64, reset=reset))
    return [row[:, None] for row in _float32(table, "X")]


def _sequence(x: Any, name: str) -> np.ndarray:
    try:
        found = np.asarray(x, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is no array of numbers ({error!s:.80}); expected shape (T, features).") from None
    found = found[:, None] if found.ndim == 1 else found
    if found.ndim != 2 or 0 in found.shape:
        raise ValueError(f"{name} has shape {np.shape(x)}; expected (T, features), each at least 1. Leave empty sequences out.")
    return _float32(found, name)


def _float32(x: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        found = x.astype(np.float32)
    if not np.isfinite(found).all():
        raise ValueError(f"{name} contains NaN, infinity or a value too large for float32; expected finite numbers. Fill or drop them.")
    return found


def _check_features(estimator: Any, given: int, *, reset: bool) -> None:
    if reset:
        estimator.n_features_in_ = given
        vars(estimator).pop("feature_names_in_", None)
        return
    wanted = 1 if estimator._from_table else estimator.n_features_in_
    if given != wanted:
        raise ValueError(f"X has {given} features, but {type(estimator).__name__} is expecting {wanted} features as input")


def numbers_of(y: Any) -> np.ndarray:
    """Real targets, float64 (n,) or (n, V).

    Raises:
        ValueError: no numbers, NaN, infinite ones, or more axes.
    """
    found = array_of(y, "y")
    if found.ndim not in (1, 2):
        raise ValueError(f"y has shape {found.shape}; expected (n,) or (n, targets), a row for each sequence.")
    return found


def array_of(values: Any, name: str, *, missing: bool = False) -> np.ndarray:
    """An array of numbers, float64.

    Args:
        values: what somebody gave.
        name: its name.
        missing: whether NaN may be among them.

    Raises:
        ValueError: they are no numbers, there are none, or some are infinite.
    """
    finite = "allow-nan" if missing else True
    check: Any = check_array  # its parameters have no types
    with np.errstate(invalid="ignore"):  # it adds numbers up to see whether one is infinite
        return np.asarray(check(values, dtype=np.float64, ensure_2d=False, allow_nd=True, ensure_all_finite=finite, input_name=name))
