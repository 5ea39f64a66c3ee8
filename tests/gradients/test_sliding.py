"""SlidingBPTT against its definition, lag by lag, and against windows taken one by one."""

import pytest
import torch
from _networks import accumulated, by_lag, network, recurrent, series
from _tables import Coupled, first
from _truth import assert_close
from hypothesis import given, settings, strategies as st

from throughtime.cells import GRU, LSTM, Elman, Relu
from throughtime.data import Batch
from throughtime.gradients import FullBPTT, SlidingBPTT, TruncatedBPTT
from throughtime.models import LanguageModel

CELLS = [Elman(), Elman(Relu()), Elman(torch.nn.functional.silu), Elman(lambda a: torch.softmax(a, -1)), GRU(), LSTM(), Coupled()]


@pytest.mark.parametrize("layers", first([3], [1, 3]))
@pytest.mark.parametrize("cell", first(CELLS[3:], CELLS), ids=lambda cell: type(cell).__name__)
def test_each_lag_is_the_definitions(cell, layers):
    """g_K − g_{K−1} is the sum over losses of what passes through the weights of the step K − 1 before: (1)–(3)."""
    model, batch, T = network(cell, layers=layers), series(6, 3, ragged=True), 6
    lags = by_lag(model, batch)
    sums = [recurrent(model, accumulated(SlidingBPTT(K), model, [batch])[0]) for K in range(1, T + 1)]
    for K in range(1, T + 1):
        assert_close([sums[K - 1]], [lags[:K].sum(0)])
    assert_close([sums[-1]], [recurrent(model, accumulated(FullBPTT(), model, [batch])[0])])


@settings(max_examples=12)
@given(
    lags=st.integers(1, 9),
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    B=st.integers(1, 3),
    layers=st.integers(1, 2),
    clip=st.sampled_from([None, 0.3]),
    cell=st.sampled_from([GRU(), LSTM()]),
)
def test_equals_windows_one_by_one_over_any_calls(lags, lengths, B, layers, clip, cell):
    """With fresh streams, masks, weights, any cut into calls, and clipping at each time step."""
    model = network(cell, layers=layers)
    batches = [series(T, B, ragged=True, fresh=torch.rand(B) < 0.3) for T in lengths]
    got, loss, carry = accumulated(SlidingBPTT(lags, clip), model, batches)
    wanted, same, other = accumulated(TruncatedBPTT(1, lags, clip), model, batches)
    assert carry.kept.keys() == other.kept.keys()
    assert_close([*got, loss, *carry.state], [*wanted, same, *other.state])


def test_the_clip_bounds_each_loss_by_itself():
    model, batch = network(LSTM()), series(8, 2)
    free, clipped = (accumulated(SlidingBPTT(5, clip), model, [batch])[0] for clip in (None, 0.1))
    assert recurrent(model, clipped).norm() < 0.5 * recurrent(model, free).norm()


def test_dropout_is_the_same_going_back():
    """Between layers, on the embedding and before the head: with the same draws, T lags are the finite difference of the loss."""
    model = LanguageModel(7, cell=GRU(), hidden_size=5, num_layers=2, embedding_size=3, dropout=0.4)
    ids = torch.randint(7, (6, 2))
    batch = Batch(ids[:-1], ids[1:])

    def loss(seed: int = 3) -> torch.Tensor:
        torch.manual_seed(seed)
        model.zero_grad()
        return SlidingBPTT(5).accumulate(model, batch).loss

    for p in model.parameters():
        loss()  # where nothing is moved: a gradient from beside it would be wrong by O(eps)
        assert p.grad is not None
        direction, slope, eps = torch.randn_like(p), p.grad.clone(), 1e-5
        p.data += eps * direction
        up = loss()
        p.data -= 2 * eps * direction
        down = loss()
        p.data += eps * direction
        assert float((up - down) / (2 * eps)) == pytest.approx(
            float((slope * direction).sum()), rel=1e-4, abs=1e-6
        )  # O(eps²), and 1e-13/eps of rounding


def test_what_it_refuses():
    with pytest.raises(ValueError, match="lags is 0; expected an integer from 1"):
        SlidingBPTT(0)
    with pytest.raises(ValueError, match=r"clip_adjoint is 0.*None switches it off"):
        SlidingBPTT(3, 0.0)
    model = network(GRU())
    _, _, carry = accumulated(SlidingBPTT(3), model, [series(4, 2)])
    with pytest.raises(ValueError, match=r"made by SlidingBPTT\(lags=3.*given to SlidingBPTT\(lags=4.*Pass carry.state"):
        SlidingBPTT(4).accumulate(model, series(4, 2), carry)
    with pytest.raises(ValueError, match=r"batch has B = 3.*Pass model.initial_state\(3\)"):
        SlidingBPTT(3).accumulate(model, series(4, 3), carry)
