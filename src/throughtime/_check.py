"""The checks that several rooms share. Each message says what was got, what was expected, and what to do.

Where ``InputError`` is raised:

    * here, if several places need the check, or if it needs no knowledge of one place;
    * otherwise beside the code that knows what went wrong, such as the reader of a file or a constructor.

All of these are public borders: a constructor, a call that users make, a file that they name. Inner code does not check again.
Where torch raises ``ValueError`` or ``RuntimeError``, the same type is raised. ``NotImplementedError`` names a combination that works.

Messages are written for Python. An argument or option that is also a flag of the command is in backquotes, `seed` or `seed=1`, and the
command replaces it by its flag, or by its place in a file of options.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ._errors import InputError as InputError, NonFinite as NonFinite
from ._numbers import (
    above_zero as above_zero,
    at_least as at_least,
    counted as counted,
    fraction as fraction,
    memory as memory,
    one_of as one_of,
    positive as positive,
    seed as seed,
    split as split,
)
from ._shapes import State


def sequence_input(shape: Sequence[int], input_size: int) -> None:
    """A layer stack's input."""
    if len(shape) != 3 or shape[2] != input_size or 0 in shape[:2]:
        raise InputError(
            f"xs has shape {tuple(shape)}; expected (T, B, {input_size}) with T and B at least 1. "
            f"Time comes first: use xs.transpose(0, 1) if yours is (B, T, {input_size})."
        )


def state(given: State, wanted: Sequence[tuple[int, ...]]) -> None:
    """A recurrent state of the shapes ``wanted`` by the stack and the batch."""
    shapes = [tuple(s.shape) for s in given]
    if shapes != list(wanted):
        B = wanted[0][1]
        raise InputError(
            f"the carried state has shapes {shapes} but the batch has B = {B}: states are (L, B, H), here {list(wanted)}. "
            f"Pass model.initial_state({B}), or carry=None to start afresh."
        )


def indices(name: str, values: Tensor, size: int) -> None:
    """Vocabulary indices in [0, size).

    Checked on the CPU only. Reading values from a GPU would synchronise at every step; there torch's own lookup refuses them.
    """
    if not values.numel() or values.device.type != "cpu":
        return
    least, most = (int(end) for end in values.long().aminmax())  # torch finds no minimum of unsigned types
    if least < 0 or most >= size:
        raise InputError(
            f"{name} has indices from {least} to {most}; expected 0 to {size - 1}, the vocabulary's. "
            "Encode the text with the vocabulary that the model was built with."
        )


def flags(name: str, values: Tensor | None) -> None:
    """True and False, not 0 and 1."""
    if values is not None and values.dtype != torch.bool:
        raise InputError(f"{name} is {values.dtype}; expected torch.bool. Use {name}.bool().")


def per_step(name: str, values: Tensor | None, T: int, B: int) -> None:
    """A tensor (T, B) of a batch: mask or weights."""
    if values is not None and tuple(values.shape) != (T, B):
        raise InputError(f"{name} has shape {tuple(values.shape)}; expected (T, B) = ({T}, {B}), one number a step and stream.")


def json_file(path: Path) -> object:
    """A JSON file.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected a file that throughtime wrote. Check the path.") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}); expected the file that throughtime wrote. Restore it, or train again.") from None


def instance(name: str, value: object, kind: type, examples: str) -> None:
    """An instance of ``kind``, not the class itself or a string."""
    if not isinstance(value, kind):
        got = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
        raise InputError(f"{name} is {got:.200}; expected an object such as {examples}.")


def tensor(name: str, value: object) -> None:
    """A torch tensor, not a list or an array."""
    if not isinstance(value, Tensor):
        raise InputError(
            f"{name} is of type {type(value).__module__}.{type(value).__qualname__}; expected a torch.Tensor. "
            f"Use torch.as_tensor({name.split()[-1]})."
        )


def lengths(given: Tensor, T: int, B: int, *, check_values: bool) -> None:
    """Steps of each sequence of a batch, (B,), 0 to T; without ``check_values`` only type and shape are checked."""
    if given.dtype not in (torch.int64, torch.int32, torch.int16, torch.uint8) or tuple(given.shape) != (B,):
        raise InputError(
            f"lengths are {given.dtype} of shape {tuple(given.shape)}; expected integers of shape (B,) = ({B},), one a sequence."
        )
    if check_values and B and (int(given.min()) < 0 or int(given.max()) > T):
        raise InputError(
            f"lengths go from {int(given.min())} to {int(given.max())}; expected 0 to T = {T}, the steps that the input has. "
            "Cut them to the input's length, or pad the input."
        )


def reset(given: Tensor, T: int, B: int, *, check_values: bool) -> None:
    """Where a state restarts: (B,) before the first step, or (T, B); True and False, or 1 and 0 of any real type."""
    if given.dtype.is_complex or tuple(given.shape) not in ((B,), (T, B)):
        raise InputError(
            f"reset is {given.dtype} of shape {tuple(given.shape)}; expected True or 1 where a state restarts, of shape (B,) = ({B},), "
            f"before the first step, or (T, B) = ({T}, {B}). Time comes first even where the layer is batch_first: use reset.T."
        )
    if check_values and given.dtype != torch.bool and not bool(((given == 0) | (given == 1)).all()):
        raise InputError("reset has values other than 0 and 1; expected 1 where a state restarts and 0 elsewhere. Use reset > 0.5.")


def same_dtype(name: str, given: State, dtype: torch.dtype) -> None:
    """A state of the input's dtype. torch raises RuntimeError, with another message for each cell."""
    if wrong := [s.dtype for s in given if s.dtype != dtype]:
        raise RuntimeError(f"{name} is {wrong[0]} and the input is {dtype}; expected one dtype. Convert the state with .to({dtype}).")


def same_device(input: torch.device, weights: torch.device) -> None:
    """The input and the weights are on one device."""
    if input != weights:
        raise RuntimeError(
            f"the input is on {input} and the layer's weights are on {weights}; expected one device. "
            f"Move the input with input.to('{weights}'), or the model with model.to('{input}')."
        )
