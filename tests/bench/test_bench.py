"""What is compared is the same work: contestants compute the same, and rows say who was measured."""

import json

import pytest
import torch
from _truth import assert_close, rounding

import throughtime as tt
from throughtime.bench import (
    QUESTIONS,
    Row,
    Spread,
    _contest,
    _jax,
    _layers,
    _memory,
    _own_cells,
    _startup,
    _steps,
    _training,
    draw,
    measure,
)
from throughtime.cli import main


def test_contestants_have_as_much_time_each_and_take_turns():
    calls = []

    def contestant(name, seconds):
        return lambda count: calls.append((name, count)) or seconds

    found = _contest.contest({"quick": contestant("quick", 0.01), "slow": contestant("slow", 0.1)}, seconds=9 * 2 * 0.5, scale=1e3)
    assert calls[:4] == [("quick", 1), ("quick", 1), ("slow", 1), ("slow", 1)]
    assert calls[4:] == [("quick", 50), ("slow", 5)] * 9
    assert found == {"quick": Spread(10, 10, 10), "slow": Spread(100, 100, 100)}


@pytest.mark.parametrize("cell", _training.CELLS)
def test_both_trainers_make_the_same_steps(cell):
    trainers = _training.pair(cell, V=7, hidden=5, window=6)
    ids = torch.randint(7, (7, 3))
    batch = tt.Batch(ids[:-1], ids[1:], fresh=torch.zeros(3, dtype=torch.bool))
    for _ in range(3):
        for trainer in trainers.values():
            trainer.step(batch)
    ours, theirs = ([*trainer.model.parameters()] for trainer in trainers.values())
    assert_close([p.detach() for p in ours], [p.detach() for p in theirs], rounding(condition=2e-3 / 1e-8))  # at worst Adam divides by 1e-8


@pytest.mark.parametrize("kind", _steps.LAYERS)
def test_every_way_to_step_gives_the_same(kind):
    layer, x = _steps.LAYERS[kind](4, 4), torch.randn(1, 4)
    calls = [_steps.pushed(layer, x), _steps.by_layer(layer, x), _steps.by_cell(kind, layer, x)]
    for _ in range(3):
        ours, by_layer, by_cell = (call() for call in calls)
        assert_close([ours, by_cell], [by_layer, by_layer])


def test_the_loop_by_hand_is_the_cell():
    loop, layer = _own_cells.LoopByHand(3, 4), tt.nn.Recurrence(tt.cells.zoo.MGU(), 3, 4)
    for mine, theirs in zip(layer.parameters(), (loop.W.weight, loop.R.weight, loop.W.bias, loop.R.bias), strict=True):
        theirs.data.copy_(mine.data)
    xs = torch.randn(5, 2, 3)
    assert_close([layer(xs)[0].detach()], [loop(xs)[0].detach()])


def test_memory_is_of_the_same_gradient(monkeypatch):
    for name, value in {"B": 2, "H": 4, "V": 5}.items():
        monkeypatch.setattr(_memory, name, value)
    plain, batch = _memory.Plain(_memory.V, torch.nn.GRU(_memory.H, _memory.H)), _memory._batch(10)
    plain.backward(batch, every_state=True)
    whole = [p.grad.clone() for p in plain.parameters()]
    plain.zero_grad()
    plain.backward(batch, every_state=False)
    assert_close([p.grad for p in plain.parameters()], whole)


@pytest.mark.parametrize(
    ("name", "cell"),
    [("rnn", tt.cells.Elman()), ("gru", tt.cells.GRU()), ("lstm", tt.cells.LSTM()), ("mgu", tt.cells.zoo.MGU())],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_jax_takes_the_same_step(name, cell):
    """The line of JAX, with torch's functions of the same names in the place of JAX's."""
    step, wx, rh, *state = _jax.STEPS[name], *torch.randn(2, 3, cell.gates, 5), *torch.randn(cell.states, 3, 5)
    names = {"jnp": torch, "sig": torch.sigmoid, "wx": wx, "rh": rh, "s": tuple(state)}
    exec(step.line, names)
    assert step.states == cell.states
    assert_close(names["s"], cell.step(wx, rh, tuple(state)), rounding(20, dtype=torch.float64))


def small(monkeypatch) -> None:
    """Sizes that take no time."""
    monkeypatch.setattr(_layers, "SIZES", [(4, 2, 3, 5)])
    monkeypatch.setattr(_layers, "installed", lambda: False)
    monkeypatch.setattr(_steps, "find_spec", lambda name: None)


def test_rows(monkeypatch):
    small(monkeypatch)
    rows = list(measure(["layers", "steps"], seconds=1e-3))
    assert [row.case for row in rows[:3]] == [f"{cell}, T 4, B 2, I 3, H 5" for cell in ("RNN", "GRU", "LSTM")]
    assert [row.peers for row in rows[2:5]] == [["torch.nn"], *[["torch.nn", "torch.nn's cell"]] * 2]
    assert all(0 < s.low <= s.median <= s.high for row in rows for s in row.found.values())


def test_a_row_without_peers_is_not_drawn():
    assert draw([Row("start-up", "throughtime --help", "s", {"throughtime": Spread(1, 1, 1)})], "") is None


@pytest.fixture
def float32():
    """As the command finds it: onnxruntime has no simple network in float64."""
    torch.set_default_dtype(torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_as_it_comes(question, float32):
    rows = list(measure([question], seconds=0.05))
    assert rows
    assert all("throughtime" in row.found for row in rows)


@pytest.mark.slow
def test_every_question_of_start_up_is_a_program_that_runs():
    assert _startup.command("--version")() > 0


class TestVerb:
    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch, tmp_path):
        small(monkeypatch)
        monkeypatch.chdir(tmp_path)

    def test_numbers_and_a_picture(self, capsys, tmp_path):
        assert main(["bench", "--only", "layers", "--seconds", "0.001", "--threads", "1", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["threads"], found["picture"], len(found["rows"])) == (1, "bench.png", 3)
        assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ("--only layer", "--only names 'layer'; expected some of layers, training, memory, steps, own-cells, start-up"),
            ("--seconds 0", "--seconds is 0.0; expected a finite number above 0"),
            ("--threads 0", "--threads is 0"),
            ("--picture no/bench.png", "no is no folder"),
        ],
    )
    def test_words_that_mean_nothing(self, words, said, capsys, tmp_path):
        assert main(["bench", *words.split()]) == 2
        assert said in capsys.readouterr().err
        assert not list(tmp_path.iterdir())
