"""Packed sequences: values and gradients beside torch's own, however time is cut, and how much padding a cut leaves."""

import math

import pytest
import torch
from _truth import assert_close, gradients
from hypothesis import given as drawn, strategies as st
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import throughtime as tt
from throughtime.nn import _packed
from throughtime.nn._packed import lengths_of, parts_of, run_parts

I, H = 3, 5
PAIRS = [(tt.RNN, nn.RNN), (tt.GRU, nn.GRU), (tt.LSTM, nn.LSTM)]
LENGTHS = [2, 13, 2, 9, 1, 9, 2]  # in any order, some alike
CUTS = {"every cut": 0.5, "some": 6, "none": math.inf}  # padding that is worth a call


def packed(lengths, requires_grad=True):
    data = [torch.randn(n, I) for n in lengths]
    together = pack_sequence(data, enforce_sorted=False)
    return PackedSequence(together.data.requires_grad_(requires_grad), *together[1:])


def results(layer, given, state, reset=None):
    """Output, last state, and every gradient for random cotangents."""
    hx = None if state is None else tuple(state) if isinstance(layer, nn.LSTM) else state[0]
    torch.manual_seed(4)
    output, last = layer(given, hx) if reset is None else layer(given, hx, reset=reset)
    ends = [output.data, *(last if isinstance(last, tuple) else (last,))]
    return [*ends, *gradients(ends, [torch.randn_like(y) for y in ends], [given.data, *(state or ()), *layer.parameters()])]


def states(layer, B):
    rows = layer.num_layers * (1 + layer.bidirectional)
    return [torch.randn(rows, B, H, requires_grad=True) for _ in range(2 if isinstance(layer, nn.LSTM) else 1)]


@pytest.fixture(params=CUTS, ids=str)
def cuts(request, monkeypatch):
    monkeypatch.setattr(_packed, "A_CALL", CUTS[request.param] - 2 * (I + H))


@pytest.mark.usefixtures("cuts")
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("options", [{}, {"num_layers": 3, "bidirectional": True, "dropout": 0.4}, {"bias": False, "bidirectional": True}])
def test_beside_torch(ours, theirs, options):
    mine, peer = ours(I, H, **options), theirs(I, H, **options)
    peer.load_state_dict(mine.state_dict())
    given, state = packed(LENGTHS), states(mine, len(LENGTHS))
    assert_close(results(mine, given, state), results(peer, given, state))
    assert_close(results(mine, given, None), results(peer, given, None))


@pytest.mark.usefixtures("cuts")
@pytest.mark.parametrize("ours", [tt.GRU, tt.LSTM])
@pytest.mark.parametrize("learn", [False, True])
def test_resets_are_those_of_the_same_sequences_padded(ours, learn):
    """In both directions, with a reset before the first step, at a cut, after a sequence's end."""
    layer = ours(I, H, 2, bidirectional=True, learn_h0=learn)
    given, state = packed(LENGTHS), states(layer, len(LENGTHS))
    reset = torch.rand(max(LENGTHS), len(LENGTHS)) < 0.3
    reset[0, 0] = reset[2, 1] = reset[9, 3] = reset[12, 0] = True
    xs, lengths = nn.utils.rnn.pad_packed_sequence(given)
    output, last = layer(xs, tuple(state) if len(state) > 1 else state[0], lengths=lengths, reset=reset)
    ends = [nn.utils.rnn.pack_padded_sequence(output, lengths, enforce_sorted=False).data, *(last if len(state) > 1 else (last,))]
    torch.manual_seed(4)
    wanted = gradients(ends, [torch.randn_like(y) for y in ends], [given.data, *state, *layer.parameters()])
    assert_close(results(layer, given, state, reset), [*ends, *wanted])


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("shuffled", [False, True])
def test_sequences_of_one_length_are_an_array(ours, theirs, shuffled):
    mine, peer = ours(I, H, 2), theirs(I, H, 2)
    peer.load_state_dict(mine.state_dict())
    data, sizes, _, _ = packed([9] * 4)
    order = torch.tensor([2, 0, 3, 1]) if shuffled else None
    given = PackedSequence(data, sizes, order, None if order is None else order.argsort())
    for state in (None, states(mine, 4)):
        assert_close(results(mine, given, state), results(peer, given, state))


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("T", [1, 2, 4, 8, 12, 24])
def test_few_steps_and_many_with_and_without_gradients(ours, theirs, T):
    """Of few steps torch's own loop takes care."""
    mine, peer = ours(I, H), theirs(I, H)
    peer.load_state_dict(mine.state_dict())
    given, state = packed([T, (T + 1) // 2, 1]), states(mine, 3)
    assert_close(results(mine, given, state), results(peer, given, state))
    with torch.no_grad():
        assert_close([mine(given)[0].data], [peer(given)[0].data])


@pytest.mark.parametrize("option", ["recurrent_dropout", "zoneout"])
def test_masks_are_drawn_once_for_a_sequence(monkeypatch, option):
    monkeypatch.setattr(_packed, "A_CALL", 0.5 - 2 * (I + H))  # every cut, but where masks are drawn
    layer, given = tt.GRU(I, H, **{option: 0.5}), packed([12] + [3] * 8, requires_grad=False)
    xs, lengths = nn.utils.rnn.pad_packed_sequence(given)
    torch.manual_seed(0)
    output, _ = layer(given)
    torch.manual_seed(0)
    wanted, _ = layer(xs, lengths=lengths)
    assert_close([output.data], [nn.utils.rnn.pack_padded_sequence(wanted, lengths).data])


@drawn(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.floats(1, 200))
def test_parts_follow_each_other_and_leave_little_padding(lengths, worth):
    lengths = sorted(lengths, reverse=True)
    sizes = torch.tensor([sum(n > t for n in lengths) for t in range(lengths[0])])
    assert lengths_of(sizes).tolist() == lengths
    parts = parts_of(sizes, lengths_of(sizes), worth)
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == len(sizes)
    for part in parts:
        within = [min(n - part.start, part.stop - part.start) for n in lengths if n > part.start]
        assert part.rows == len(within)
        assert (part.lengths is None and set(within) == {part.stop - part.start}) or part.lengths.tolist() == within
        # no single cut of what is left spares as much as it is worth
        assert (
            len(parts) == 1
            or max((part.rows - s) * (part.stop - part.start - k) for k, s in enumerate(sizes[part.start : part.stop].tolist())) < worth
        )
    assert len(parts) < 2 or worth * (len(parts) - 1) <= sizes[0] * len(sizes) - sizes.sum()  # each cut has spared it


def test_one_long_sequence_and_many_short_ones_are_not_padded():
    """2000 steps beside 255 sequences of 10: 512,000 steps padded, of which 4,550 are there."""
    sizes = torch.tensor([256] * 10 + [1] * 1990)
    seen = []

    def run(xs, state, traversal):
        seen.append(tuple(xs.shape[:2]))
        return xs, state

    data, state = torch.randn(4550, 1), (torch.randn(256, 1),)
    output, last = run_parts(parts_of(sizes, lengths_of(sizes), 1000), run, data, state, tt.kernels.FORWARD)
    assert seen == [(10, 256), (1990, 1)]
    assert torch.equal(output, data)
    assert torch.equal(last[0], state[0])
