"""The scripts of benchmarks/clients that need no stranger's package: a function replaced in a script, results that are kept, a nudge."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

CLIENTS = Path(__file__).parents[2] / "benchmarks" / "clients"


@pytest.fixture
def script(monkeypatch):
    """A script by its name, as a module; its neighbours are forgotten after the test."""
    monkeypatch.syspath_prepend(CLIENTS)
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (CLIENTS / name.split(".")[0]).with_suffix(".py").exists() or name.split(".")[0] == "programs":
            del sys.modules[name]


THEIRS = """\
class Agent:
    def before(self):
        return 1

    def step(self, x):
        for _ in range(2):
            x = x + 1
        return x

    def after(self):
        return 3
"""


def test_one_function_of_a_script_becomes_ours(script):
    changed = script("programs._program").with_method(THEIRS, "step", "def step(self, x):\n    return 10 * x\n")
    found: dict = {}
    exec(changed, found)
    agent = found["Agent"]()
    assert (agent.before(), agent.step(2), agent.after()) == (1, 20, 3)
    assert changed.splitlines()[:4] == THEIRS.splitlines()[:4]


def test_a_script_without_that_function_is_refused(script):
    with pytest.raises(SystemExit, match="defines walk 0 times; expected once"):
        script("programs._program").with_method(THEIRS, "walk", "def walk(self): ...\n")


def test_what_is_found_later_joins_what_is_kept(script, tmp_path):
    run, place = script("run"), tmp_path / "found.json"
    client = run.CLIENTS["crf_tagger"]
    run.keep(client, [{"rounds": 2, "losses": 3}], place)
    run.keep(run.CLIENTS["skorch_gru"], [{"rounds": 1}], place)
    run.keep(client, [{"losses": 4}], place)
    rows = json.loads(place.read_text())["clients"]
    assert [(row["client"], row["rounds"], row.get("losses")) for row in rows] == [
        (client.title, 2, 4),
        (run.CLIENTS["skorch_gru"].title, 1, None),
    ]


def test_every_client_says_what_is_changed(script):
    contestants = script("contestants")
    for client in contestants.CLIENTS.values():
        assert (CLIENTS / client.script).exists()
        assert client.differs
        assert "throughtime" in client.changed


def test_a_layer_is_nudged_once_and_by_its_last_bit(script, monkeypatch):
    variants, hooks = script("variants"), []
    monkeypatch.setattr(variants, "register_module_forward_pre_hook", hooks.append)
    variants.nudge_at_first_use()
    layer = torch.nn.GRU(2, 3, dtype=torch.float32)
    before = layer.weight_hh_l0.detach().clone()
    hooks[0](layer, ())
    once = layer.weight_hh_l0.detach().clone()
    hooks[0](layer, ())
    torch.testing.assert_close(once, before, rtol=2 * torch.finfo(torch.float32).eps, atol=0)
    assert not once.equal(before)
    assert once.equal(layer.weight_hh_l0)
