"""Files that are whole or absent: written aside, flushed to the disk, then put in place in one move. Never a pickle."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .._check import InputError


def write_text(path: Path, text: str) -> None:
    """Replace a text file as a whole."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file as a whole."""
    aside = path.with_name(f".{path.name}.part")
    try:
        aside.write_bytes(content)
        _into_place(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def check_new_file(path: Path) -> None:
    """Refuse to write over a file, or into no folder."""
    if path.exists():
        raise InputError(f"{path} is there already; expected a new file. Remove it, or name another.")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is no folder; expected one to write {path.name} to. Make it, or name another.")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: object) -> None:
    """Replace a safetensors file as a whole; ``about`` is JSON that travels in its header."""
    write_bytes(path, save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, {"throughtime": json.dumps(about)}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], object]:
    """The tensors of a file that ``write_tensors`` wrote, and what it says about them.

    Raises:
        InputError: it is missing, cut short, or not ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = (file.metadata() or {}).get("throughtime", "null")
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(about)
    except FileNotFoundError:
        raise InputError(f"{path} is not there; expected a run folder's file. Check the path, or train first.") from None
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read as safetensors ({error}); expected a whole file that throughtime wrote. Restore it, or train again."
        ) from None


def load_parameters(path: Path, model: torch.nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a model the weights of a file, after a look at every name, shape and type.

    Raises:
        InputError: weights that are missing, too many, or of another shape or type.
    """
    wanted = dict(model.named_parameters())
    if odd := sorted(wanted.keys() ^ tensors.keys()):
        raise InputError(
            f"{path} and config.json disagree on the weights {', '.join(odd[:4])}; expected {len(wanted)} weights of the same "
            f"names. Restore the folder."
        )
    for name, p in wanted.items():
        got = tensors[name]
        if got.shape != p.shape or got.dtype != p.dtype:
            raise InputError(
                f"{path}: weight {name} is {got.dtype} {tuple(got.shape)}; expected {p.dtype} {tuple(p.shape)}, as config.json says. "
                "Restore the folder."
            )
        if not torch.isfinite(got).all():
            raise InputError(
                f"{path}: weight {name} has numbers that are not finite; expected a trained model's. Restore the folder, or train again."
            )
    with torch.no_grad():
        for name, p in wanted.items():
            p.copy_(tensors[name])


def _into_place(aside: Path, path: Path) -> None:
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(aside, path)
