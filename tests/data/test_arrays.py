"""Files of arrays: mapped where they can be, and refused before anything of that size is made where they tell more than they have."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from throughtime import InputError
from throughtime.data._arrays import read_arrays
from throughtime.data._frames import read_frames, write_frames
from throughtime.data._labels import LabelColumns, write_labels


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
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("it was read"))
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


ARRAYS = {
    "x": np.arange(24.0).reshape(2, 3, 4),
    "columns first": np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
    "one": np.array(3, np.uint8),
    "none": np.zeros((0, 5), np.float32),
    "words": np.array(["a", "bcd"]),
    "n" * 300: np.array([True, False]),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_those_that_were_saved(tmp_path, save):
    save(tmp_path / "x.npz", **ARRAYS)
    (tmp_path / "y.npz").write_bytes(b"before a zip there may be anything" + (tmp_path / "x.npz").read_bytes())
    for name in ("x.npz", "y.npz"):
        found = read_arrays(tmp_path / name)
        assert found.keys() == ARRAYS.keys()
        for key, wanted in ARRAYS.items():
            assert found[key].dtype == wanted.dtype
            np.testing.assert_array_equal(found[key], wanted, strict=True)


def test_a_byte_that_was_changed_is_noticed(tmp_path):
    np.savez(path := tmp_path / "x.npz", x=np.ones(1000))
    path.write_bytes(path.read_bytes().replace(np.ones(1000).tobytes(), np.ones(999).tobytes() + b"\1" * 8))
    with pytest.raises(InputError, match="array 'x', is damaged"):
        read_arrays(path)


def test_numbers_that_take_no_bytes(tmp_path):
    """numpy would make a byte of each, of 2^40."""
    write(tmp_path / "x.npy", npy((2**40,), "|S0"))
    with pytest.raises(InputError, match="its header tells 0 bytes of numbers"):
        read_arrays(tmp_path / "x.npy")


X = np.random.default_rng(0).standard_normal((64, 64, 1024)).astype(np.float32)  # 64 sequences of 256 KiB


@pytest.mark.parametrize("y", [np.arange(64) % 3, np.arange(64 * 64).reshape(64, 64) % 3, None], ids=["label", "labels", "frames"])
def test_sequences_may_be_larger_than_memory(tmp_path, y):
    """One at a time is in memory, as float64 and once more when scaled."""
    np.savez(tmp_path / "x.npz", x=X, **({} if y is None else {"y": y}))
    tracemalloc.start()
    if y is None:
        pieces = write_frames(tmp_path / "x.npz", tmp_path, split=(0.5, 0.25, 0.25)).pieces
    else:
        pieces = write_labels(tmp_path / "x.npz", tmp_path, LabelColumns(), split=(0.5, 0.25, 0.25)).pieces
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < X.nbytes / 4
    train = X[pieces.of("train")].astype(np.float64)
    wanted = (train[0] - train.mean((0, 1))) / train.std((0, 1))
    # rounded to float32 at the end; before that, sums of 32 · 64 terms in float64
    np.testing.assert_allclose(pieces.view(int(pieces.of("train")[0])), wanted, rtol=2**-23, atol=2048 * 2**-52)
