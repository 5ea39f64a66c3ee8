"""Sequences for scikit-learn: estimators with ``fit`` and ``predict`` over the package's own models, steps and batches."""

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(f"throughtime.sklearn needs scikit-learn ({error}). Install it: pip install 'throughtime[sklearn]'") from error

from ._estimator import SequenceEstimator as SequenceEstimator
from ._regressor import SequenceRegressor as SequenceRegressor
from ._classifier import SequenceClassifier as SequenceClassifier
from ._forecaster import Forecaster as Forecaster
