"""Padded sequences with labels as a batch.

T time · B batch · I input · C classes.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .. import _check
from .._check import InputError
from ._batch import Batch


def labelled(
    inputs: Float[Tensor, "T B I"],
    labels: Int[Tensor, "*T B"],
    lengths: Int[Tensor, " B"] | None = None,
    *,
    class_weights: Float[Tensor, " C"] | None = None,
) -> Batch:
    """Whole sequences with one label each, whose loss is that of the last step, or with a label for each step.

    Args:
        inputs: time first, padded to the longest.
        labels: (B,) classes; or (T, B), where a negative one means that the step has no label.
        lengths: steps of each sequence; None: all have T.
        class_weights: (C,) the weight of each class's loss; None: ones.

    Raises:
        InputError: shapes that do not match, lengths below 1 or beyond T, a sequence without a label.

    >>> batch = labelled(torch.zeros(4, 2, 3), torch.tensor([1, 0]), torch.tensor([4, 2]))
    >>> batch.weights.T.tolist()
    [[0.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]]
    """
    T, B = inputs.shape[:2]
    lengths = torch.full((B,), T) if lengths is None else lengths
    mask = mask_of_lengths(lengths, T)
    if tuple(labels.shape) not in ((B,), (T, B)):
        raise InputError(f"labels have shape {tuple(labels.shape)}; expected (B,) = ({B},), or (T, B) = {(T, B)}. Time comes first.")
    if labels.ndim == 1 and bool((labels < 0).any()):
        raise InputError(f"labels go down to {int(labels.min())}; expected classes from 0, one a sequence. Leave such sequences out.")
    last = torch.arange(T).unsqueeze(1) == lengths.cpu() - 1
    counts = (last if labels.ndim == 1 else mask & (labels.cpu() >= 0)).to(inputs.device)
    targets = labels.expand(T, B).clamp(min=0).contiguous()
    weights = counts.to(inputs.dtype)
    if class_weights is not None:
        _check.indices("labels", targets, len(class_weights))
        weights = weights * class_weights.to(weights)[targets]
    fresh = torch.ones(B, dtype=torch.bool, device=inputs.device)
    return Batch(inputs, targets, mask=mask.to(inputs.device), weights=weights, fresh=fresh)


def mask_of_lengths(lengths: Int[Tensor, " B"], T: int) -> Bool[Tensor, "T B"]:
    """True at the steps that belong to a sequence, False at the padding after it.

    Raises:
        InputError: a length below 1 or beyond T.

    >>> mask_of_lengths(torch.tensor([3, 1]), 3).T.tolist()
    [[True, True, True], [True, False, False]]
    """
    _check.lengths(lengths, T, lengths.shape[0], check_values=True)
    if len(lengths) and int(lengths.min()) < 1:
        raise InputError("a sequence has length 0; expected at least one step in each. Leave empty sequences out.")
    return torch.arange(T).unsqueeze(1) < lengths.cpu()
