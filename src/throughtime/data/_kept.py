"""Arrays that throughtime keeps in a run folder: opened as they were written, or refused."""

from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from .._check import InputError

DAMAGED = (OSError, ValueError, EOFError, OverflowError, SyntaxError, TokenError)  # what numpy's reader raises for a file that is none


def kept_array(path: Path, shape: tuple[int, ...], dtype: Any, remedy: str = "Train again with `overwrite`.") -> np.ndarray:
    """The array of a file, mapped into memory.

    Raises:
        InputError: it is missing, cut short, or of another shape or type.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except DAMAGED as error:
        told = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} cannot be read ({told:.60}); expected what throughtime wrote. {remedy}") from None
    if array.shape != shape or array.dtype != dtype:
        raise InputError(f"{path} has {array.dtype} {array.shape}; expected {np.dtype(dtype)} {shape}: it was changed. {remedy}")
    return array
