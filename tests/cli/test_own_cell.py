"""A run with a cell of one's own: the shell imports what was typed, and never what only a file names."""

import sys

import pytest
from _shell import SMALL

from throughtime.cli import main
from throughtime.training import _build

pytestmark = pytest.mark.usefixtures("as_in_a_shell")

MODULE = """
from pathlib import Path
from throughtime.cells import Elman
Path("imported").touch()

class Wave(Elman):
    pass
"""


@pytest.fixture
def forgotten(monkeypatch):
    """As in a new process, which has not imported the module."""
    monkeypatch.setattr(_build, "_named", set())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def forget() -> None:
        sys.modules.pop("wave_of_a_test", None)
        _build._named.clear()

    yield forget
    forget()


def test_what_a_run_folder_names_is_not_imported(forgotten, tmp_path, capsys, monkeypatch):
    (tmp_path / "wave_of_a_test.py").write_text(MODULE)
    cell = "wave_of_a_test:Wave"
    assert main(["train", "text", "book.txt", *SMALL, "--cell", cell, "--out", "run"]) == 0
    for verb in (["evaluate", "run"], ["sample", "run"], ["train", "text", "--out", "run", "--resume", "--steps", "9"]):
        forgotten()
        (tmp_path / "imported").unlink()
        assert main(verb) == 2
        assert f"the cell is {cell}, Python code that a file names; expected you to name it" in capsys.readouterr().err
        assert not (tmp_path / "imported").exists()
        (tmp_path / "imported").touch()
    forgotten()
    assert main(["train", "text", "--out", "run", "--resume", "--steps", "9", "--cell", cell]) == 0
    forgotten()
    monkeypatch.setenv("THROUGHTIME_CELLS", f"other:Cell,{cell}")
    assert main(["evaluate", "run"]) == 0


STEPS = """
import torch
from throughtime.cells import AbstractCell

class NoStep(AbstractCell):
    gates = states = 1

    def step(self, wx, rh, state):
        return (wx,)

class Mixing(NoStep):
    def step(self, wx, rh, state):
        return (torch.softmax((wx + rh)[:, 0], -1),)
"""


def test_a_step_is_looked_at_before_anything_is_made(forgotten, tmp_path, capsys, caplog):
    (tmp_path / "wave_of_a_test.py").write_text(STEPS)
    train = lambda name: main(["train", "text", "book.txt", *SMALL, "--cell", f"wave_of_a_test:{name}", "--out", name])
    assert train("NoStep") == 2
    assert "step of NoStep returned state 0 of shape (5, 1, 7)" in capsys.readouterr().err
    assert not (tmp_path / "NoStep").exists()
    assert train("Mixing") == 0
    (told,) = [r.getMessage() for r in caplog.records if r.name == "throughtime"]
    assert told.startswith("throughtime runs wave_of_a_test:Mixing by the plain loop, which is right and slow: softmax in step of Mixing (")
    assert "wave_of_a_test.py, line 13) mixes units" in told
