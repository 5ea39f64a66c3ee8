"""Files of arrays that tell more than they have, or unpack to more than a machine holds: refused before anything of that size is made."""

import io
import zipfile

import numpy as np
import pytest

from throughtime import InputError
from throughtime.data._arrays import read_arrays
from throughtime.data._frames import read_frames


def npy(shape: tuple[int, ...], kind: str = "<f8", numbers: int = 6) -> bytes:
    """An array of some numbers, with a header that tells any shape."""
    np.lib.format.write_array_header_1_0(written := io.BytesIO(), {"descr": kind, "fortran_order": False, "shape": shape})
    return written.getvalue() + bytes(8 * numbers)


def write(path, array: bytes) -> None:
    if path.suffix == ".npy":
        path.write_bytes(array)
        return
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as members:
        members.writestr("x.npy", array)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
@pytest.mark.parametrize("shape", [(7,), (3, 2**20, 3), (2**62, 2**62), (-1, -6)])
def test_a_header_that_tells_more_than_there_is(tmp_path, monkeypatch, name, shape):
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was read"))
    write(tmp_path / name, npy(shape))
    with pytest.raises(InputError, match=r"its header tells \S+ bytes of numbers; 48 are there"):
        read_arrays(tmp_path / name)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_a_header_that_tells_what_is_there(tmp_path, name):
    write(tmp_path / name, npy((3, 2)))
    assert [array.shape for array in read_arrays(tmp_path / name).values()] == [(3, 2)]


@pytest.mark.parametrize("name", ["x.npz", "x.mat"])
def test_what_is_packed_a_thousandfold(tmp_path, monkeypatch, name):
    """The machine has 80 pages of 4096 bytes; the arrays need 100, and their files less than one."""
    save_mat = pytest.importorskip("scipy.io").savemat
    zeros = {"x": np.zeros(50 * 512), "y": np.zeros(50 * 512)}
    np.savez_compressed(tmp_path / name, **zeros) if name == "x.npz" else save_mat(tmp_path / name, zeros, do_compression=True)
    assert (tmp_path / name).stat().st_size < 4096
    has = lambda pages: monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": pages, "SC_PAGE_SIZE": 4096}.__getitem__)
    has(80)
    with pytest.raises(InputError, match=r"what .* has packed takes about .* this machine has"):
        read_arrays(tmp_path / name)
    has(103)
    assert len(read_arrays(tmp_path / name)) == 2


def test_nothing_in_very_many_pieces(tmp_path):
    """No byte is missing here, and a list of 2^40 lengths must not be made."""
    write(tmp_path / "x.npz", npy((2**40, 2**20, 0), "|u1"))
    np.savez(tmp_path / "y.npz", y=np.ones((1, 2, 3)))
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as members:
        members.writestr("y.npy", npy((1, 2, 3)))
    with pytest.raises(InputError, match=r"'x' has shape .*; expected pieces"):
        read_frames(tmp_path / "x.npz", ())
