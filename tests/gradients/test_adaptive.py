"""AdaptiveBPTT: its sizes by brute force, its bound by literal sums, its window against the bias that is really there."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from _networks import accumulated, by_lag, network, recurrent, series
from _tables import Coupled, first
from _truth import assert_close

from throughtime.cells import GRU, LSTM, Elman, Identity
from throughtime.gradients import AdaptiveBPTT, FullBPTT, History, SlidingBPTT, TruncatedBPTT
from throughtime.gradients._adaptive import bias_bound
from throughtime.gradients._stations import run_with_steps

NEVER = 1e-12  # a tolerance that no window meets


def at_the_end(T: int, B: int):
    """One loss a stream, at the last step."""
    weights = torch.zeros(T, B)
    weights[-1] = 1
    return series(T, B, weights=weights)


def contracting(cell, rate: float = 0.5, **options):
    """R is ``rate`` times an orthogonal matrix, in every gate and layer."""
    model = network(cell, **options)
    for layer in range(model.recurrence.num_layers):
        for R in model.recurrence.parameters_of(layer).R:
            torch.nn.init.orthogonal_(R.data, rate)
    return model


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM(), Coupled()], ids=lambda cell: type(cell).__name__)
def test_sizes_and_gradients_of_each_lag(cell, layers):
    """(1): ψ_k is the mean over streams of the norm of the gradient through step s − k alone; ‖E g_K‖ is that of the mean."""
    model, batch = network(cell, layers=layers), at_the_end(6, 3)
    sizes, norms = measured(AdaptiveBPTT(0.5, 5), model, batch)
    each = torch.stack([by_lag(model, replace(batch.steps(0, 6), **one(batch, b))) for b in range(3)])  # (B, K, P)
    assert_close([sizes], [each.norm(dim=2).mean(0)[:5]])
    assert_close([norms], [each.mean(0).cumsum(0).norm(dim=1)[:5]])


def measured(method, model, batch, history=None):
    """ψ_k and ‖E g_{k+1}‖ of the loss at step 5."""
    history = History.of(batch, None, "") if history is None else history
    trace = run_with_steps(model, history.steps(0, history.T), history.state, history.fresh, "")
    return method._measure(trace, model.adjoint(trace.hs[5:6], batch.steps(5, 6))[0], 5)


def one(batch, b: int) -> dict:
    return {name: getattr(batch, name)[:, b : b + 1] for name in ("inputs", "targets", "weights")}


def test_lags_before_a_beginning_are_not_seen():
    model, batch = network(GRU()), at_the_end(6, 2)
    history = History.of(batch, None, "")
    history.fresh[3, 0] = True
    sizes, _ = measured(AdaptiveBPTT(0.5, 9), model, batch, history)
    assert len(sizes) == 6
    alone, _ = measured(AdaptiveBPTT(0.5, 9), model, replace(batch, **one(batch, 1)))
    assert_close([sizes[3:]], [alone[3:]])


@pytest.mark.parametrize("fit_from", [0, 2, 4, None])
def test_the_bound_is_the_theorems(fit_from):
    """(2)–(6) by loops; sizes that do not fall geometrically before τ, gradients that partly cancel."""
    sizes, norms = [3.0, 1.0, 2.0, 1.2, 0.5, 0.3, 0.1], [8.0, 9.0, 7.5, 7.0, 7.2, 7.1, 7.1]
    tau = 3 if fit_from is None else fit_from
    ks = range(tau, 7)
    mean_k, mean_y = sum(ks) / len(ks), sum(math.log(sizes[k]) for k in ks) / len(ks)
    slope = sum((k - mean_k) * (math.log(sizes[k]) - mean_y) for k in ks) / sum((k - mean_k) ** 2 for k in ks)
    beta = math.exp(slope)

    def R(K: int) -> float:
        if tau <= K:
            return sizes[tau] * beta ** (K - tau) / (1 - beta)
        return sum(sizes[K:tau]) + sizes[tau] / (1 - beta)

    least = max(norms[K - 1] - R(K) for K in range(1, 8))
    got = bias_bound(torch.tensor(sizes), torch.tensor(norms), 10, fit_from)
    assert_close([got.absolute], [torch.tensor([R(K) for K in range(1, 11)])])
    assert_close([got.relative], [torch.tensor([R(K) / least for K in range(1, 11)])])


@pytest.mark.parametrize(
    ("sizes", "norms"),
    [([1.0, 1.1, 1.2, 1.3], [9.0] * 4), ([1.0, 0.9, 0.8, 0.7], [0.1] * 4), ([1.0], [1.0]), ([], [])],
    ids=["it grows", "the gradient is too small", "one lag", "no lag"],
)
def test_where_nothing_is_known_the_window_is_the_largest(sizes, norms):
    bias = bias_bound(torch.tensor(sizes), torch.tensor(norms), 4, None)
    assert torch.isinf(bias.relative).all()
    assert AdaptiveBPTT(0.9, 4).choose(bias) == (4, math.inf)


def test_nothing_that_lasts():
    """R h = 0: only lag 0, so β = 0 and one lag is all."""
    model = network(Elman(), layers=1)
    model.recurrence.weight_hh_l0.data.zero_()
    method = AdaptiveBPTT(0.1, 8)
    _, _, carry = accumulated(method, model, [series(10, 4)])
    assert method.logged(carry) == {"window": 1.0, "bias_bound": 0.0}


@pytest.mark.parametrize(
    ("cell", "tolerance"),
    first([(Elman(), 0.5), (GRU(), 0.1)], list(itertools.product([Elman(), GRU(), Elman(Identity())], [0.5, 0.1, 0.01]))),
    ids=str,
)
def test_the_bias_that_is_left_is_under_the_tolerance(cell, tolerance):
    """On a network that contracts, over the very streams that were measured; and the window is not simply the largest."""
    model, batch = contracting(cell, layers=1), at_the_end(40, 50)
    method = AdaptiveBPTT(tolerance, 40, k1=1)
    got, _, carry = accumulated(method, model, [batch])
    exact, _, _ = accumulated(FullBPTT(), model, [batch])
    told = method.logged(carry)
    bias = float((recurrent(model, got) - recurrent(model, exact)).norm() / recurrent(model, exact).norm())
    assert bias < told["bias_bound"] < tolerance
    assert 1 < told["window"] < 40
    shorter, _, _ = accumulated(SlidingBPTT(int(told["window"])), model, [batch])
    assert_close(got, shorter)


def test_a_smaller_tolerance_asks_for_more_lags():
    model, batch = contracting(LSTM(), layers=2), at_the_end(50, 20)
    windows = [accumulated(AdaptiveBPTT(d, 50), model, [batch])[2].kept["window"] for d in (0.9, 0.3, 0.03)]
    assert windows == sorted(windows)
    assert len(set(windows)) == 3


@pytest.mark.parametrize(
    ("method", "same"),
    [
        (AdaptiveBPTT(NEVER, 5), TruncatedBPTT(5, 9)),
        (AdaptiveBPTT(NEVER, 5, k1=2), TruncatedBPTT(2, 6)),
        (AdaptiveBPTT(NEVER, 5, k1=1, clip_adjoint=0.3), SlidingBPTT(5, 0.3)),
        (AdaptiveBPTT(NEVER, 1), TruncatedBPTT(1)),
    ],
    ids=lambda m: repr(m),
)
def test_with_its_window_it_is_the_method_of_that_window_over_many_calls(method, same):
    model = network(LSTM())
    batches = [series(T, 3, ragged=True, fresh=torch.rand(3) < 0.3) for T in (3, 1, 6, 2, 8)]
    got, loss, carry = accumulated(method, model, batches)
    wanted, same_loss, other = accumulated(same, model, batches)
    assert_close([*got, loss, *carry.state], [*wanted, same_loss, *other.state])
    assert len(carry.kept.get("inputs", [])) == method.max_lags - 1


def test_it_looks_again_every_so_many_calls():
    model, batch, method = contracting(Elman(), layers=1), series(30, 8), AdaptiveBPTT(0.1, 30, every=3)
    windows, carry = [], None
    for call in range(7):
        if call == 1:
            for R in model.recurrence.parameters_of(0).R:
                R.data.zero_()
        _, _, carry = accumulated(method, model, [batch], carry)
        windows.append(method.logged(carry)["window"])
    assert windows[0] == windows[1] == windows[2] != windows[3] == windows[5]


def test_a_batch_without_a_loss_changes_nothing():
    method, model, batch = AdaptiveBPTT(0.5, 6, every=1), contracting(GRU()), series(8, 2)
    _, _, carry = accumulated(method, model, [batch])
    got, loss, later = accumulated(method, model, [replace(batch, mask=torch.zeros(8, 2, dtype=torch.bool))], carry)
    assert (float(loss), later.kept["window"], later.kept["bound"]) == (0.0, carry.kept["window"], carry.kept["bound"])
    assert not any(g.any() for g in got)


def test_what_it_refuses():
    for wrong in (0.0, 1.0, -0.5, math.nan):
        with pytest.raises(ValueError, match=r"tolerance is .*; expected a relative bias in \(0, 1\)"):
            AdaptiveBPTT(wrong, 10)
    with pytest.raises(ValueError, match="max_lags is 0; expected an integer from 1"):
        AdaptiveBPTT(0.5, 0)
    with pytest.raises(ValueError, match="every is 0"):
        AdaptiveBPTT(0.5, 10, every=0)
    with pytest.raises(ValueError, match="k1 is 0"):
        AdaptiveBPTT(0.5, 10, k1=0)
    with pytest.raises(ValueError, match=r"min_lags is 11 and max_lags is 10.*Lower min_lags"):
        AdaptiveBPTT(0.5, 10, min_lags=11)
    with pytest.raises(ValueError, match=r"fit_from is 9 and max_lags is 10.*a lag from 0 to max_lags − 2"):
        AdaptiveBPTT(0.5, 10, fit_from=9)
    model = network(GRU())
    _, _, carry = accumulated(AdaptiveBPTT(0.5, 6), model, [series(4, 2)])
    with pytest.raises(ValueError, match=r"made by AdaptiveBPTT\(tolerance=0.5.*given to SlidingBPTT"):
        SlidingBPTT(6).accumulate(model, series(4, 2), carry)
    with pytest.raises(ValueError, match=r"batch has B = 3.*Pass model.initial_state\(3\)"):
        AdaptiveBPTT(0.5, 6).accumulate(model, series(4, 3), carry)
