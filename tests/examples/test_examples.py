"""Every example runs, does what it says, and is short."""

import runpy
from pathlib import Path

import pytest
import torch
from _truth import assert_close

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _as_a_script():
    torch.set_default_dtype(torch.float32)


def load(name: str) -> dict:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_an_example_is_at_most_a_hundred_lines(file):
    assert len(file.read_text().splitlines()) <= 100


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
