"""Every example runs as a program, says what its words say, and is short."""

import os
import re
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from _truth import assert_close

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))


@pytest.fixture(autouse=True)
def _as_a_script(tmp_path, monkeypatch):
    """In a folder of its own, on the threads that there were."""
    threads = torch.get_num_threads()
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    yield
    torch.set_num_threads(threads)
    plt.close("all")


@pytest.fixture
def run(monkeypatch, shapes_unchecked):
    """An example as a program: its names when it has ended."""

    def run(name: str, *words: str) -> dict:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
        return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")

    return run


def load(name: str) -> dict:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_is_at_most_a_hundred_lines_in_cells(file):
    lines = file.read_text("utf-8").splitlines()
    assert lines[:2] == ["# %% [markdown]", f"# # {lines[1][4:]}"]
    assert sum(not line.startswith("#") for line in lines) <= 100
    assert {line for line in lines if line.startswith("# %")} == {"# %%", "# %% [markdown]"}


@pytest.mark.slow
def test_character_model(run):
    assert run("character_model")["nats"] < 1.6
    assert Path("character_model.png").exists()


@pytest.mark.slow
def test_sunspots(run):
    """On a table that is made here: a cycle of eleven years whose height changes, as that of the sun does."""
    years, generator = np.arange(1700, 2009), np.random.default_rng(0)
    heights = 60 + 30 * np.sin(2 * np.pi * (years - 1700) / 90)
    spots = np.maximum(0, heights * (1 - np.cos(2 * np.pi * (years - 1700) / 11)) + generator.normal(0, 5, len(years)))
    np.savetxt("table.csv", np.stack([years, spots], 1), delimiter=",", header="YEAR,SPOTS", comments="", fmt="%.1f")
    rows = run("sunspots", "table.csv")["rows"]
    network, copying = rows["GRU, mean of 5"], rows["last value"]
    assert network[0] < copying[0] / 2
    assert network[1] < copying[1] / 2


@pytest.mark.slow
def test_why_does_it_not_learn(run):
    told = run("why_does_it_not_learn")
    assert (told["before"].verdict.state, told["after"].verdict.state) == ("vanishing", "healthy")
    assert "nn.Chrono(50)" in {advice.told("python").split(": ")[-1] for advice in told["before"].verdict.advice}
    assert told["failed"] < 0.4
    assert told["learned"] > 0.9


@pytest.mark.slow
def test_online(run):
    """Every method follows the drift, and does much better than copying."""
    last = {name: float(error[-500:].mean()) for name, error in run("online")["errors"].items()}
    copying = last.pop("saying the last value again")
    assert max(last.values()) < copying / 2


@pytest.mark.slow
def test_online_is_stopped_by_ctrl_c():
    """A method that is stopped keeps what it has, and the next begins."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, EXAMPLES / "online.py", "100_000"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert process.stderr.readline() == "one step: Ctrl-C stops it\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        found = re.match(r"one step: stopped after ([\d,]+) steps\n", process.stdout.readline())
    finally:
        process.kill()
        process.communicate()
    assert found
    assert 0 <= int(found[1].replace(",", "")) < 100_000


@pytest.mark.slow
def test_per_sample_gradients(run, capsys):
    told = run("per_sample_gradients")
    assert told["found"] >= 28
    assert told["off"] < 1e-4  # float32, and a mean of gradients that nearly cancel
    assert "torch.nn.GRU: " in capsys.readouterr().out


@pytest.mark.slow
def test_accelerate(run, capsys):
    told = run("accelerate")
    assert told["apart"] < 1e-4
    assert told["after"][-1] < told["after"][0] / 2
    assert "in the file: torch.nn.modules.rnn.GRU" in capsys.readouterr().out


def test_your_own_cell(capsys):
    """Always answering 1 has an error of 1/6; a few steps on short sequences are enough to be better."""
    assert load("your_own_cell")["main"](steps=60, length=4) < 0.14
    assert "step    60  error 0." in capsys.readouterr().out


def test_your_own_gradient():
    full, short, own = load("your_own_gradient")["main"](perturbations=20, draws=10)
    assert full.bias < 1e-6
    assert own.draws == 10
    assert own.refused is short.refused is None
    assert own.bias < 2 * own.noise  # no more than chance makes it


@pytest.mark.slow
@pytest.mark.parametrize("name", ["your_own_cell", "your_own_gradient", "ppo_lstm"])
def test_the_program_as_it_is(run, name, capsys):
    run(name)
    assert capsys.readouterr().out


@pytest.mark.slow
def test_your_own_gradient_trains_and_carries():
    """As any other: it adds to what stands, the state goes on, and streams begin anew."""
    import throughtime as tt

    method, full = load("your_own_gradient")["Perturbation"](400, size=1e-3), tt.gradients.FullBPTT()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    model = tt.LanguageModel(5, hidden_size=3, embedding_size=0)
    ids = torch.randint(5, (13, 2))
    carries = []
    for m in (method, full):
        _, carry = m.accumulate(model, tt.Batch(ids[:6], ids[1:7]))
        model.zero_grad()
        _, carry = m.accumulate(model, tt.Batch(ids[6:12], ids[7:], fresh=torch.tensor([True, False])), carry)
        carries.append((carry.state[0], torch.cat([p.grad.flatten() for p in model.parameters()])))
    (state, g), (wanted, exact) = carries
    assert_close([state], [wanted])
    assert torch.nn.functional.cosine_similarity(g, exact, dim=0) > 0.8


@pytest.mark.slow
def test_ppo_lstm():
    """A turn by chance is right half of the time; the agent remembers a sign for a few steps after seconds."""
    torch.manual_seed(0)
    assert load("ppo_lstm")["train"](updates=20, delay=2, T=32) > 0.75
