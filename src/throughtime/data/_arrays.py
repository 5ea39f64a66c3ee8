"""Arrays of a file: npy, npz and MATLAB's mat, of plain numbers and words. Nothing in such a file can run code."""

import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

import numpy as np

from .. import _numbers
from .._check import InputError
from ._columns import listed
from ._kept import DAMAGED

ENDINGS = (".npy", ".npz", ".mat")


def is_array_file(path: Path) -> bool:
    """Whether the name is that of a file of arrays."""
    return path.suffix.lower() in ENDINGS


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name; that of an npy file has no name.

    Arrays of npy, and of npz as numpy.savez writes it, are mapped, so that they may be larger than memory; others are read.
    A mat file's cells are arrays of objects, each of which is an array. In npy and npz there are no objects, since numpy reads them by
    pickle, which can run code.

    Raises:
        InputError: the file is missing, damaged, empty or of another kind, or it has Python objects in it; it tells of more numbers than it
            has, or than this machine's memory holds.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(Path(folder, "rolls.npz"), train=np.zeros((3, 8, 88)), test=np.ones((1, 8, 88)))
    ...     {name: array.shape for name, array in read_arrays(Path(folder, "rolls.npz")).items()}
    {'train': (3, 8, 88), 'test': (1, 8, 88)}
    """
    if not path.is_file():
        raise InputError(f"{path} cannot be read (no such file); expected {', '.join(ENDINGS)}. Check the path.")
    if not is_array_file(path):
        raise InputError(f"{path} ends in {path.suffix or 'nothing'!r}; expected arrays in {', '.join(ENDINGS)}. Name such a file.")
    found = _matlab(path) if path.suffix.lower() == ".mat" else _numpy(path)
    if not any(array.size for array in found.values()):
        raise InputError(f"{path} has no number in it; expected arrays. Give a file with data.")
    return found


def _numpy(path: Path) -> dict[str, np.ndarray]:
    name = ""
    try:
        with path.open("rb") as file:
            if (begins := file.read(len(_MAGIC))).startswith(_PICKLED):
                raise ValueError("pickle")
            if begins == _MAGIC:
                return {"": _mapped(path, file, 0, os.fstat(file.fileno()).st_size)}
            arrays: dict[str, np.ndarray] = {}
            with zipfile.ZipFile(file) as members:
                told = 0
                for name, member, array in _members(members):  # noqa: B007  the error tells the name
                    told += 0 if _is_plain(member) else _told(array, member.file_size)
                _numbers.memory(told, f"what {path} has packed", _SMALLER)
                for name, member, array in _members(members):
                    arrays[name] = _of_member(path, file, member, array)
            return arrays
    except (InputError, MemoryError):
        raise
    except (*DAMAGED, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        which = f", array {name!r}," if name else ""
        if "pickle" in str(error).lower():
            raise InputError(
                f"{path}{which} has Python objects in it, which are read by pickle and could run code; expected plain numbers. Save one "
                "array a piece, or a padded array and its lengths."
            ) from None
        raise InputError(
            f"{path}{which} is damaged or no file of numpy's ({str(error) or type(error).__name__:.80}); expected what numpy.save or "
            "numpy.savez wrote. Write it again."
        ) from None


def _members(members: zipfile.ZipFile) -> Iterator[tuple[str, zipfile.ZipInfo, BufferedIOBase]]:
    """The arrays of an npz file, each with its name."""
    for member in members.infolist():
        with members.open(member) as array:
            yield member.filename.removesuffix(".npy"), member, cast(BufferedIOBase, array)


def _is_plain(member: zipfile.ZipInfo) -> bool:
    """Whether its bytes stand in the file as they are."""
    return member.compress_type == zipfile.ZIP_STORED


def _of_member(path: Path, file: BufferedIOBase, member: zipfile.ZipInfo, array: BufferedIOBase) -> np.ndarray:
    """What is packed is read; what is not is mapped, after all of it was seen once, so that its checksum is."""
    if not _is_plain(member):
        return np.lib.format.read_array(array, allow_pickle=False)
    while array.read(_PART):
        pass
    file.seek(member.header_offset + _LENGTHS)
    start = member.header_offset + _LENGTHS + 4 + sum(struct.unpack("<HH", file.read(4)))
    return _mapped(path, file, start, member.file_size)


def _mapped(path: Path, file: BufferedIOBase, start: int, size: int) -> np.ndarray:
    """The array whose header begins there, and which takes so many bytes with it; nothing of it is read yet."""
    file.seek(start)
    shape, fortran, dtype = _header(file, start + size)
    if 0 in shape:  # which no system maps
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def _told(array: BufferedIOBase, end: int) -> int:
    """The bytes of numbers that an array's header tells."""
    shape, _, dtype = _header(array, end)
    return math.prod(shape) * dtype.itemsize


def _header(array: BufferedIOBase, end: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns come first, and type; more numbers than there are before the end are refused."""
    version = np.lib.format.read_magic(array)  # type: ignore[arg-type]
    if version not in _HEADERS:
        raise ValueError(f"its format is {version[0]}.{version[1]}")
    shape, fortran, dtype = _HEADERS[version](array)  # type: ignore[arg-type]
    if dtype.hasobject:
        raise ValueError("pickle")
    told, there = math.prod(shape) * dtype.itemsize, end - array.tell()
    if told > there or min(shape, default=0) < 0 or not dtype.itemsize:
        raise ValueError(f"its header tells {told:.3g} bytes of numbers; {there:,} are there")
    return shape, fortran, dtype


_PICKLED = b"\x80"  # how a pickle begins since Python 2.3
_MAGIC = np.lib.format.MAGIC_PREFIX
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_LENGTHS = 26  # of a member's name and of what else is said of it: where they stand in its own header (APPNOTE.TXT 4.3.7)
_PART = 2**20  # bytes that are read at a time, where they are only looked at
_SMALLER = "Save it in several files, or in a smaller type of numbers."


def _matlab(path: Path) -> dict[str, np.ndarray]:
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "scipy":
            raise
        raise InputError(
            "the package scipy is not installed; expected it, as mat files are read with it. Install it with: pip install "
            "'throughtime[mat]'."
        ) from None
    try:
        _numbers.memory(_unpacked(path), f"what {path} has packed", _SMALLER)
        found: Mapping[str, Any] = loadmat(path)
    except InputError:
        raise
    except MemoryError:
        raise
    except NotImplementedError:
        raise InputError(f"{path} is a mat file of version 7.3; expected version 5 to 7. Save it in MATLAB with '-v7'.") from None
    except Exception as error:  # scipy's reader of a damaged file raises what its bytes lead it to
        raise InputError(
            f"{path} is damaged or no mat file ({str(error) or type(error).__name__:.80}); expected what MATLAB or scipy.io.savemat wrote."
        ) from None
    return {name: array for name, array in found.items() if isinstance(array, np.ndarray) and not re.fullmatch("__.*__", name)}


def _unpacked(path: Path) -> int:
    """The bytes of a mat file when everything in it is unpacked, of which a megabyte is held at a time."""
    with path.open("rb") as file:
        return path.stat().st_size + sum(len(part) for packed in _packed_elements(file) for part in _parts(packed))


def _packed_elements(file: BufferedIOBase) -> Iterator[bytes]:
    """The elements of a mat file of version 5 that are packed by zlib: a type, a size, and so many bytes."""
    order = "<" if file.read(128)[126:] == b"IM" else ">"
    while len(tag := file.read(8)) == 8:
        kind, size = struct.unpack(f"{order}II", tag)
        if kind == _PACKED:
            yield file.read(min(size, os.fstat(file.fileno()).st_size))
        else:
            file.seek(size, os.SEEK_CUR)


_PACKED = 15  # miCOMPRESSED


def _parts(packed: bytes) -> Iterator[bytes]:
    unpacking = zlib.decompressobj()
    while packed and (part := unpacking.decompress(packed, 2**20)):
        yield part
        packed = unpacking.unconsumed_tail


def choose(path: Path, arrays: Mapping[str, np.ndarray], flag: str, name: str) -> np.ndarray:
    """One of a file's arrays by name.

    Raises:
        InputError: it is not there.
    """
    import difflib

    if name not in arrays:
        near = difflib.get_close_matches(name, arrays, 1, 0.6)
        told = f"; perhaps {near[0]!r}" if near else ""
        raise InputError(f"{flag} is {name!r}, which is no array of {path}; expected one of {listed(list(arrays))}{told}.")
    return arrays[name]


def as_numbers(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    """An array as float64.

    Raises:
        InputError: it has text, complex numbers or objects in it, or a number that is not finite.
    """
    of = f"array {name!r}" if name else "the array"
    if array.dtype.kind not in "biuf":
        kind = {"U": "text", "S": "text", "c": "complex numbers", "O": "objects"}.get(array.dtype.kind, str(array.dtype))
        raise InputError(f"{path}: {of} has {kind} in it; expected numbers. Leave it out, or write its numbers.")
    numbers = array.astype(np.float64)
    if not (fine := np.isfinite(numbers)).all():
        where = tuple(int(i) for i in np.argwhere(~fine)[0])
        place = ", ".join(map(str, where))
        raise InputError(f"{path}: {of} has {numbers[where]} at [{place}]; expected finite numbers. Fill it in, or leave that piece out.")
    return numbers


def seen(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    """An array of numbers ``as_numbers`` takes, still in its own type and, where it is mapped, not in memory."""
    as_numbers(path, name, array)
    return array


def as_lengths(path: Path, name: str, array: np.ndarray, count: int, steps: int) -> np.ndarray:
    """The steps of each of ``count`` sequences that are padded to ``steps``.

    Raises:
        InputError: another number of them, fractions, below 1, or more than the arrays have.
    """
    flat = array.reshape(-1)
    if flat.dtype.kind not in "iuf" or len(flat) != count or (flat != np.floor(flat)).any():
        raise InputError(f"{path}: array {name!r} is {array.dtype} {array.shape}; expected {count:,} whole numbers, one a sequence.")
    if count and (flat.min() < 1 or flat.max() > steps):
        worst = int(flat.max()) if flat.max() > steps else int(flat.min())
        raise InputError(
            f"{path}: array {name!r} has the length {worst:,}; expected 1 to {steps:,}, the steps that the arrays have. Mend the lengths."
        )
    return flat.astype(np.int64)
