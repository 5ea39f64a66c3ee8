"""RandomTruncatedBPTT: its expectation by going through every pattern of cuts, its draws, and what goes from call to call."""

import itertools
import math

import pytest
import torch
from _networks import accumulated, network, series
from _tables import Coupled, first
from _truth import assert_close, rounding

from throughtime.cells import GRU, LSTM, Elman
from throughtime.data import Batch
from throughtime.gradients import FullBPTT, History, RandomTruncatedBPTT, TruncatedBPTT, _random_truncated

CUT, ON = 0.0, 1.0  # draws that are below every probability, and above


def probability(method: RandomTruncatedBPTT, pattern: tuple[float, ...]) -> float:
    """Of the cuts after steps 1..T−1, with the paper's formula spelled out; a draw decides before every step, the first one's in vain."""
    delta, p = 1, 1.0
    for draw in pattern[1:]:
        q = (method.alpha - 1) / ((method.alpha - 2) * method.mean_length + delta)
        p, delta = (p * q, 1) if draw == CUT else (p * (1 - q), delta + 1)
    return p


def expectation(monkeypatch, method, model, batches):
    """Σ over patterns of P(pattern) · ĝ(pattern), B = 1, exactly."""
    T, wanted, total = sum(batch.T for batch in batches), [], 0.0
    for tail in itertools.product((CUT, ON), repeat=T - 1):
        draws = iter((CUT, *tail))
        monkeypatch.setattr(
            _random_truncated, "_uniform", lambda T, B, generator, draws=draws: torch.tensor([[next(draws)] for _ in range(T)])
        )
        p = probability(method, (CUT, *tail))
        got, _, _ = accumulated(method, model, batches)
        wanted, total = [p * g for g in got] if not wanted else [w + p * g for w, g in zip(wanted, got, strict=True)], total + p
    assert total == pytest.approx(1, abs=rounding(32))
    return wanted


@pytest.mark.parametrize("cut", [(6,), (2, 3, 1)], ids=["one call", "three calls"])
@pytest.mark.parametrize("cell", first([LSTM()], [Elman(), GRU(), LSTM(), Coupled()]), ids=lambda cell: type(cell).__name__)
def test_its_expectation_is_the_exact_gradient(monkeypatch, cell, cut):
    """(1)–(4), over all 2^5 patterns; over calls too, the whole past."""
    model, whole = network(cell), series(6, 1, ragged=True)
    ends = list(itertools.accumulate(cut))
    batches = [whole.steps(end - T, end) for T, end in zip(cut, ends, strict=True)]
    got = expectation(monkeypatch, RandomTruncatedBPTT(2.5, alpha=4.0), model, batches)
    wanted, _, _ = accumulated(FullBPTT(), model, [whole])
    assert_close(got, wanted)


def test_alpha_and_length_are_the_papers(monkeypatch):
    """Another α and L0: the weights follow; with the weights of one and the draws of another the expectation is off."""
    model, whole = network(GRU(), layers=1), series(4, 1)
    wanted, _, _ = accumulated(FullBPTT(), model, [whole])
    assert_close(expectation(monkeypatch, RandomTruncatedBPTT(1.5, alpha=6.0), model, [whole]), wanted)
    q = RandomTruncatedBPTT(10.0, alpha=4.0).probability(torch.tensor([1.0, 2.0, 100.0]))
    assert_close([q], [torch.tensor([3 / 21, 3 / 22, 3 / 120])])


def test_the_mean_length_and_its_tail():
    """Lengths by (1), drawn: their mean is L0 (1 %: sd 1.7 L0 over √40,000), and P(length > ℓ) is the product of 1 − q."""
    method = RandomTruncatedBPTT(8.0, alpha=6.0, seed=3)
    since = run_of_deltas(method, T=4000, B=80)
    lengths = torch.cat([torch.diff((column == 1).nonzero().flatten()) for column in since.T]).double()
    assert lengths.mean() == pytest.approx(8, rel=0.02)
    survive = math.prod(1 - 5 / (4 * 8 + delta) for delta in range(1, 21))
    assert (lengths > 20).double().mean() == pytest.approx(survive, abs=4 * (survive / len(lengths)) ** 0.5)


def run_of_deltas(method: RandomTruncatedBPTT, T: int, B: int) -> torch.Tensor:
    """(T, B) δ as drawn in calls of 500 steps, of which the network has nothing to do with."""
    rows, kept = [], {}
    for _ in range(T // 500):
        batch = Batch(torch.zeros(500, B, 1), torch.zeros(500, B, 1), fresh=torch.zeros(B, dtype=torch.bool))
        since, generator = method._draw(History.of(batch, (torch.zeros(1, B, 1),), ""), kept)
        rows.append(since[-500:])
        kept = {"since": since[-1:], "generator": generator.get_state()}
    return torch.cat(rows)


@pytest.mark.slow
def test_unbiased_over_many_draws():
    """30 draws of ĝ along the exact gradient, 200 streams each: the mean is within 4.5 standard errors (Student's t: false alarm 1e-4)."""
    torch.manual_seed(1)
    model, batch = network(GRU(), layers=1), series(12, 200)
    exact = torch.cat([g.flatten() for g in accumulated(FullBPTT(), model, [batch])[0]])
    cut = torch.cat([g.flatten() for g in accumulated(TruncatedBPTT(2), model, [batch])[0]])
    draws, carry = [], None
    for _ in range(30):  # 200 streams, each with cuts of its own
        restart = Batch(batch.inputs, batch.targets, fresh=torch.ones(200, dtype=torch.bool))
        got, _, carry = accumulated(RandomTruncatedBPTT(3.0), model, [restart], carry)
        draws.append(torch.cat([g.flatten() for g in got]))
    along = torch.stack(draws) @ exact / exact.square().sum()
    error = along.std() / len(along) ** 0.5
    assert abs(along.mean() - 1) < 4.5 * error
    assert abs(cut @ exact / exact.square().sum() - 1) > 4.5 * error  # the test would see a bias of that size


def test_streams_are_cut_each_by_itself_and_beginnings_are_cuts():
    since, fresh = run_of_deltas(RandomTruncatedBPTT(3.0), 500, 40), torch.tensor([True, False])
    assert not any(torch.equal(since[:, b], since[:, b + 1]) for b in range(39))
    model = network(GRU())
    _, _, carry = accumulated(RandomTruncatedBPTT(100.0), model, [series(3, 2)])
    _, _, carry = accumulated(RandomTruncatedBPTT(100.0), model, [series(2, 2, fresh=fresh)], carry)
    assert carry.kept["since"][-2:, 0].tolist() == [1, 2]
    assert len(carry.kept["since"]) == int(carry.kept["since"][-1].max()) == len(carry.kept["inputs"])


def test_the_same_seed_the_same_draws_and_a_carry_that_was_saved():
    model, batches = network(LSTM()), [series(5, 3) for _ in range(4)]
    method = RandomTruncatedBPTT(4.0, seed=7)
    one, _, _ = accumulated(method, model, batches)
    same, _, _ = accumulated(method, model, batches)
    other, _, _ = accumulated(RandomTruncatedBPTT(4.0, seed=8), model, batches)
    first, _, carry = accumulated(method, model, batches[:2])
    second, _, _ = accumulated(method, model, batches[2:], carry)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert_close([a + b for a, b in zip(first, second, strict=True)], one)
    assert all(isinstance(t, torch.Tensor) and not t.requires_grad for t in carry.kept.values())


def test_what_it_refuses():
    with pytest.raises(ValueError, match=r"mean_length is 1; expected a number above 1.*Raise it"):
        RandomTruncatedBPTT(1)
    with pytest.raises(ValueError, match=r"alpha is 2\.0; expected a number above 2"):
        RandomTruncatedBPTT(10, alpha=2.0)
    with pytest.raises(ValueError, match="mean_length is nan"):
        RandomTruncatedBPTT(math.nan)
    with pytest.raises(ValueError, match="`seed` is -1; expected an integer from 0"):
        RandomTruncatedBPTT(10, seed=-1)
    model = network(GRU())
    _, _, carry = accumulated(RandomTruncatedBPTT(5.0), model, [series(4, 2)])
    with pytest.raises(ValueError, match=r"made by RandomTruncatedBPTT\(mean_length=5.0.*given to FullBPTT"):
        FullBPTT().accumulate(model, series(4, 2), carry)
    with pytest.raises(ValueError, match=r"batch has B = 3.*Pass model.initial_state\(3\)"):
        RandomTruncatedBPTT(5.0).accumulate(model, series(4, 3), carry)
