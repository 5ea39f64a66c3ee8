"""Cells of the gallery and of one's own, trained from the shell on the adding task."""

import json

import numpy as np
import pytest
import torch

from throughtime.cli import main
from throughtime.data import adding

pytestmark = pytest.mark.usefixtures("as_in_a_shell")

OWN = """
import torch
from throughtime.cells import AbstractCell

class Mine(AbstractCell):
    gates, states, elementwise, memory_gate = 3, 2, True, 0

    def step(self, wx, rh, state):
        f, o = torch.sigmoid((wx + rh)[:, 0]), torch.sigmoid((wx + rh)[:, 2])
        c = f * state[1] + (1 - f) * torch.tanh((wx + rh)[:, 1])
        return o * torch.tanh(c), c
"""


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["mgu", "gru-reset-before", "elstm", "mycells:Mine"])
def test_the_adding_task(cell, tmp_path, monkeypatch, capsys):
    """Whether two marked ones of 50 numbers sum to more than 1. Who remembers one of them alone is right for max(u, 1 − u) of the
    sequences, three quarters; who remembers both, for all. 600 test sequences: a standard error of .018."""
    (tmp_path / "mycells.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    task = adding(50, 6000, torch.Generator().manual_seed(0))
    np.savez("adding.npz", x=task.inputs.transpose(0, 1).numpy(), y=(task.targets[-1, :, 0] > 1).numpy().astype("int64"))
    flags = ["--hidden", "32", "--batch-size", "64", "--lr", "0.005", "--epochs", "20", "--forget-bias", "2"]
    flags = flags if cell in ("elstm", "mycells:Mine") else flags[:-2]
    assert main(["train", "labels", "adding.npz", "--cell", cell, *flags, "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] > 0.75 + 4 * 0.018
