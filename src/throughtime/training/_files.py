"""Files that are whole or absent: written aside, flushed to the disk, then put in place in one move. Never a pickle.

Tensors travel with a checksum of all that is said of them and in them, so that a file that the disk has spoilt is not taken for a good one.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from .._check import InputError

_CHECKED = re.compile(r"(?:([0-9a-f]{32}) )?(.*)", re.DOTALL)  # files of before have no checksum


def write_text(path: Path, text: str) -> None:
    """Replace a text file as a whole."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Replace a file as a whole; what stood there is kept as ``previous``."""
    aside = path.with_name(f".{path.name}.part")
    try:
        aside.write_bytes(content)
        _into_place(aside, path, previous)
    finally:
        with suppress(OSError):  # the folder may be gone
            aside.unlink(missing_ok=True)


def check_new_file(path: Path) -> None:
    """Refuse to write over a file, or into no folder."""
    if path.exists():
        raise InputError(f"{path} is there already; expected a new file. Remove it, or name another.")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is no folder; expected one to write {path.name} to. Make it, or name another.")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: object, previous: Path | None = None) -> None:
    """Replace a safetensors file as a whole; ``about`` is JSON that travels in its header. What stood there is kept as ``previous``."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    told = json.dumps(about)
    header = {"throughtime": f"{_checksum(whole, told)} {told}"}  # one entry: several have no order
    write_bytes(path, as_bytes(whole, header), previous)


def as_bytes(tensors: Mapping[str, Tensor], header: dict[str, str] | None = None) -> bytes:
    """Tensors of the CPU as a safetensors file.

    By way of numpy, since ``safetensors.torch.save`` leaves a cycle of references for each tensor (python/cpython#56977), and a run that
    saves often would grow until Python looks for them.
    """
    return save({name: tensor.numpy() for name, tensor in tensors.items()}, header)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], object]:
    """The tensors of a file that ``write_tensors`` wrote, and what it says about them.

    Raises:
        InputError: it is missing, cut short, spoilt, or not ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {"throughtime": "null"}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if "throughtime" not in header:
            raise ValueError("its header is another program's")
        wanted, told = _CHECKED.fullmatch(header["throughtime"]).groups()  # type: ignore[union-attr]  it matches any string
        if wanted is not None and wanted != _checksum(tensors, told):
            raise ValueError("its checksum is another one: it was spoilt after it was written")
        return tensors, json.loads(told)
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


def _checksum(tensors: Mapping[str, Tensor], told: str) -> str:
    """BLAKE2b of names, types, shapes and numbers, and of what is told."""
    found = hashlib.blake2b(told.encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        found.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _into_place(aside: Path, path: Path, previous: Path | None = None) -> None:
    """A process that is killed between the two moves leaves ``previous`` alone."""
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    if previous is not None and path.exists():
        os.replace(path, previous)
    os.replace(aside, path)
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """The move itself to the disk, on systems where a folder can be opened."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
