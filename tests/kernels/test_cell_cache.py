"""The cache of compiled cells: whole or absent files, checked before they are loaded; and compilers that fail."""

import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from _problems import arrays, assert_close, by_kernels, by_plain, problem, rounding
from torch import nn

import throughtime as tt
from throughtime.cells import AbstractCell
from throughtime.kernels import generated, serves
from throughtime.kernels.generated import _cache, _compiler, _own
from throughtime.kernels.generated._identity import identity

if generated.compiler_about().startswith("there is no"):
    pytest.skip(generated.compiler_about(), allow_module_level=True)


@dataclass(frozen=True)
class Squared(AbstractCell):
    """One small cell, compiled once for all of these tests."""

    factor: float = 0.5
    gates = states = 1

    def step(self, wx, rh, state):
        return (self.factor * torch.tanh(wx + rh)[:, 0] ** 2,)


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """An empty cache, in a process that has loaded nothing."""
    monkeypatch.setenv("THROUGHTIME_CACHE", str(tmp_path / "cells"))
    monkeypatch.setattr(_own, "_loaded", {})
    return tmp_path / "cells"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """What the compiler makes of the cell."""
    folder, kept = tmp_path_factory.mktemp("made"), []
    real, before = _compiler.compile_file, os.environ.get("THROUGHTIME_CACHE")

    def remember(source, result, words):
        real(source, result, words)
        kept.append(shutil.copy(result, folder / "cell.so"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THROUGHTIME_CACHE", str(folder / "cells"))
        patch.setattr(_compiler, "compile_file", remember)
        patch.setattr(_own, "_loaded", {})
        tt.compile_cell(Squared())
    assert os.environ.get("THROUGHTIME_CACHE") == before
    return Path(kept[0])


@pytest.fixture
def counted(compiled, monkeypatch):
    """A compiler that has the answer ready, and the number of its calls."""
    calls = []

    def copy(source, result, words):
        calls.append(source.read_text())
        shutil.copy(compiled, result)

    monkeypatch.setattr(_compiler, "compile_file", copy)
    return calls


def load() -> str:
    """As a new process would."""
    _own._loaded.clear()
    return serves(Squared())


def test_it_is_compiled_once_and_kept_privately(fresh, counted, capsys):
    assert (load(), load(), len(counted)) == ("fast", "fast", 1)
    assert (
        capsys.readouterr().err
        == f"throughtime: compiling Squared for {tt.kernels.architecture()}, float32; it is kept for the next time\n"
    )
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o700
    (kept,) = fresh.iterdir()
    assert kept.suffix == ".cell"
    assert "1 compiled cell," in _cache.cache_about()


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "foreign", "of another key"])
def test_a_file_that_is_not_whole_or_not_ours_is_made_anew(fresh, counted, damage):
    load()
    (kept,) = fresh.iterdir()
    whole = kept.read_bytes()
    other = whole[: -_cache._SUM] + _cache._sum("another key", whole[: -_cache._SUM])
    broken = {
        "empty": b"",
        "cut": whole[:-1000],
        "changed": whole[:500] + b"!" + whole[501:],
        "foreign": b"\x7fELF" * 99,
        "of another key": other,
    }
    kept.unlink()  # this process has it mapped: another file takes its place, as os.replace would have it
    kept.write_bytes(broken[damage])
    assert (load(), len(counted)) == ("fast", 2)
    assert kept.read_bytes() == whole


def test_a_file_of_another_build_is_refused_by_the_extension(fresh, compiled, tmp_path):
    """The last of the checks: the file itself says which headers it was compiled with."""
    foreign = tmp_path / "foreign.so"
    headers = tt.kernels._fast._kernels.headers().encode()
    content = compiled.read_bytes()
    assert content.count(headers) == 1
    foreign.write_bytes(content.replace(headers, headers[::-1]))
    with pytest.raises(ValueError, match="is no cell for these kernels: it was compiled for another build of the kernels"):
        tt.kernels._fast._kernels.load_cell(str(foreign))
    (text := tmp_path / "text.so").write_bytes(b"not even a library")
    with pytest.raises(ValueError, match="is no cell for these kernels"):
        tt.kernels._fast._kernels.load_cell(str(text))
    with pytest.raises(ValueError, match="cell is 99999"):
        tt.kernels._fast._kernels.residuals_size(99999, (1, 1, 1), "fast", False)


def test_clearing_and_the_size_limit(fresh, counted, monkeypatch):
    load()
    for k in range(3):
        (fresh / f"old{k}.cell").write_bytes(b"x" * 1000)
        os.utime(fresh / f"old{k}.cell", (k, k))
    (kept,) = (p for p in fresh.iterdir() if not p.name.startswith("old"))
    monkeypatch.setattr(_cache, "MOST_BYTES", kept.stat().st_size + 1500)
    kept.unlink()
    load()
    assert {p.name for p in fresh.iterdir()} == {kept.name, "old2.cell"}  # those that were not used for longest have gone
    assert _cache.clear_cache() == 2
    assert list(fresh.iterdir()) == []


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(fresh, counted, capsys):
    fresh.mkdir(mode=0o500)
    assert load() == "fast"
    assert "cannot be used" in capsys.readouterr().err


def test_a_folder_that_others_may_write_to_or_that_is_a_file_is_not_used(fresh, counted, capsys):
    fresh.mkdir()
    fresh.chmod(0o777)
    assert load() == "fast"
    assert (
        f"the cache folder {fresh} cannot be used (others may write to it), so the cell is compiled for this process alone"
        in capsys.readouterr().err
    )
    assert list(fresh.iterdir()) == []
    fresh.rmdir()
    fresh.write_text("a file")
    assert load() == "fast"
    assert "cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_nothing_half_written(call, fresh, counted, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    assert load() == "fast"
    assert len(counted) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert list(fresh.iterdir()) == []


COMPILERS = {
    "fails": ("#!/bin/sh\necho 'cell.cpp:1: error: out of ideas' >&2\nexit 1\n", "failed: cell.cpp:1: error: out of ideas"),
    "has no room": (
        "#!/bin/sh\necho 'ld: final link failed: No space left on device\ncollect2: error: ld returned 1 exit status' >&2\nexit 1\n",
        "failed: ld: final link failed: No space left on device",
    ),
    "is killed": ("#!/bin/sh\nkill -9 $$\n", "was killed by signal 9"),
    "says nothing": ("#!/bin/sh\nexit 0\n", "failed: no word"),
    "is no program": ("", "cannot be run"),
}


@pytest.mark.parametrize("what", COMPILERS)
def test_a_compiler_that_fails(what, fresh, tmp_path, monkeypatch):
    script, message = COMPILERS[what]
    program = tmp_path / "cc"
    program.write_text(script)
    program.chmod(0o755)
    monkeypatch.setenv("CXX", str(program))
    with pytest.raises(NotImplementedError, match=message):
        tt.compile_cell(Squared())
    assert list(fresh.glob("*.cell")) == []
    p = problem(Squared(), (3, 2, 2, 4)).to(torch.float32)
    assert tt.kernels.recurrence(p.cell, p.xs, p.state, p.parameters)[0].shape == (3, 2, 4)  # the plain loop serves


def test_the_compilers_name_may_have_words_behind_it(fresh, counted, monkeypatch):
    monkeypatch.setenv("CXX", "c++ -O1")
    assert _compiler.command("baseline", fresh)[1] == "-O1"
    first = load(), len(counted)
    monkeypatch.setenv("CXX", "c++ -O2")
    assert (*first, load(), len(counted)) == ("fast", 1, "fast", 2)  # another kernel


def test_no_compiler(fresh, monkeypatch):
    monkeypatch.setenv("CXX", "nosuchcompiler")
    with pytest.raises(NotImplementedError, match=r"there is no C.. compiler .CXX names nosuchcompiler, which is not there"):
        tt.compile_cell(Squared())
    assert "there is no C++ compiler" in generated.compiler_about()


def test_what_is_no_cell_or_type():
    with pytest.raises(tt.InputError, match=r"dtype is torch\.float16; expected torch\.float32 or torch\.float64"):
        tt.compile_cell(Squared(), torch.float16)


@pytest.mark.slow
def test_two_processes_at_once(fresh):
    """Both compile, one kernel and one trace stay, and both compute the same."""
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "import torch\nfrom test_cell_cache import Squared\nfrom throughtime.kernels import serves\nassert serves(Squared()) == 'fast'\n"
    )
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]
    both = [subprocess.Popen([sys.executable, "-c", program, *paths]) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    assert sorted(p.suffix for p in fresh.iterdir()) == [".cell", ".step"]
    p = problem(Squared(), (4, 3, 5, 7))
    assert_close(arrays(*by_kernels(p)), arrays(*by_plain(p)), rounding((4, 3, 5, 7)))


# The trace of an earlier process.

RATE = 0.5


def made_of(step) -> AbstractCell:
    return type("Given", (AbstractCell,), {"gates": 1, "states": 1, "step": step})()


def helper(a):
    return torch.tanh(a) * RATE


def test_a_trace_is_used_again_only_where_nothing_has_changed(monkeypatch):
    def cell(factor: float = 0.5) -> AbstractCell:
        return made_of(lambda self, wx, rh, state: (factor * helper(wx + rh)[:, 0],))

    first = identity(cell())
    assert first is not None
    assert first == identity(cell())
    assert first != identity(cell(0.25))  # a closure
    assert first != identity(made_of(lambda self, wx, rh, state: (0.5 * helper(wx - rh)[:, 0],)))  # other code
    monkeypatch.setitem(globals(), "RATE", 0.75)  # a global of a function that the step calls
    assert first != identity(cell())
    assert identity(Squared()) != identity(Squared(0.25))  # a field
    monkeypatch.setitem(globals(), "RATE", object())  # whose changes nobody can see
    assert identity(cell()) is None


def test_learned_and_fixed_vectors_are_other_cells():
    class Scaled(AbstractCell, nn.Module):
        gates = states = 1

        def __init__(self, start: float) -> None:
            super().__init__()
            self.rho = nn.Parameter(torch.full((3,), start))

        def step(self, wx, rh, state):
            return (self.rho * (wx + rh)[:, 0],)

    cell = Scaled(1.0)
    learned = identity(cell)
    assert learned is not None
    assert learned == identity(Scaled(2.0))  # the numbers are given to the kernel at each call
    cell.rho.requires_grad_(False)
    assert identity(cell) not in (None, learned)
    cell.register_forward_hook(lambda *_: None)
    assert identity(cell) is None


def test_a_new_process_does_not_trace_again(fresh, monkeypatch):
    source = _own._source(Squared())
    (kept,) = fresh.iterdir()
    assert kept.suffix == ".step"
    monkeypatch.setattr(_own, "read", lambda cell: pytest.fail("traced"))
    assert _own._source(Squared()) == source
    monkeypatch.undo()
    monkeypatch.setenv("THROUGHTIME_CACHE", str(fresh))
    kept.write_bytes(kept.read_bytes().replace(b"tanh", b"sinh"))
    assert _own._source(Squared()) == source  # a damaged file is not believed
    assert _cache.clear_cache() == 0
    assert not any(fresh.iterdir())
