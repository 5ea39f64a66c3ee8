"""Packed sequences: values and gradients beside torch's own, however time is cut, and how much padding a cut leaves."""

import math

import numpy as np
import pytest
import torch
from _truth import assert_close, gradients
from hypothesis import given as drawn, strategies as st
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import throughtime as tt
from throughtime.nn import _packed, _short_packed
from throughtime.nn._packed import lengths_of, parts_of, run_parts
from throughtime.nn._torchs_loop import torchs_loop

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


OPTIONS = [{}, {"bias": False}, {"num_layers": 2, "bidirectional": True, "dropout": 0.4}]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("lengths", [[1, 2, 2], [2, 2], [2]], ids=str)
def test_two_steps_are_torchs_to_the_bit(ours, theirs, options, lengths):
    """Dropout's masks too, from the same seed. Sequences of one length are the kernels' where these serve the layer."""
    mine, peer = ours(I, H, **options), theirs(I, H, **options)
    peer.load_state_dict(mine.state_dict())
    given = packed(lengths)
    for state in (None, states(mine, len(lengths))):
        got, wanted = results(mine, given, state), results(peer, given, state)
        if len(set(lengths)) > 1 or options.get("bidirectional"):
            assert all(map(torch.equal, got, wanted))
        else:
            assert_close(got, wanted)


def test_two_steps_with_a_projection():
    mine, peer = tt.LSTM(I, H, proj_size=2, bidirectional=True), nn.LSTM(I, H, proj_size=2, bidirectional=True)
    peer.load_state_dict(mine.state_dict())
    given, state = packed([1, 2, 2]), [torch.randn(2, 3, 2, requires_grad=True), torch.randn(2, 3, H, requires_grad=True)]
    assert all(map(torch.equal, results(mine, given, state), results(peer, given, state)))


def test_what_torchs_loop_runs_and_what_it_does_not(monkeypatch):
    counted = []
    monkeypatch.setattr(_short_packed, "torchs_loop", lambda *given: counted.append(1) or torchs_loop(*given))

    def took(layer, lengths=(2, 1)) -> bool:
        before = len(counted)
        layer(packed(lengths))
        return len(counted) > before

    layer = tt.GRU(I, H)
    assert took(layer)
    assert took(tt.GRU(I, H, bidirectional=True), (2, 2))
    assert took(tt.GRU(I, H, recurrent_dropout=0.5).eval())
    assert not took(layer, (2, 2))
    assert not took(layer, (30, 1))
    for options in ({"learn_h0": True}, {"layer_norm": True}, {"zoneout": 0.1}, {"recurrent_dropout": 0.5}, {"state_batch_first": True}):
        assert not took(tt.GRU(I, H, **options))
    tt.set_kernels("plain")
    try:
        assert not took(layer)
    finally:
        tt.set_kernels("fast")


def bad_calls(layer):
    """Name, packed input, state: each of another size or type than the layer wants."""
    lstm, given = isinstance(layer, nn.LSTM), packed([3, 1])
    state = lambda *size, **kind: (torch.zeros(size, **kind),) * 2 if lstm else torch.zeros(size, **kind)
    yield "input of another width", PackedSequence(torch.zeros(4, I + 1), *given[1:]), None
    yield "input of another type", PackedSequence(given.data.float(), *given[1:]), None
    yield "input with three axes", PackedSequence(torch.zeros(4, 2, I), *given[1:]), None
    yield "state of another batch", given, state(1, 1, H)
    yield "state of another width", given, state(1, 2, H + 1)
    yield "state of more layers", given, state(2, 2, H)
    yield "state without an axis", given, state(2, H)
    yield "one state for two, or two for one", given, torch.zeros(1, 2, H) if lstm else (torch.zeros(1, 2, H),) * 2


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("grad", [False, True])
def test_bad_calls_are_refused(ours, theirs, grad):
    """Three steps are few without a gradient: then in torch's words. With one, torch's LSTM says less than the ordinary way does."""
    mine, peer = ours(I, H), theirs(I, H)
    for (name, *given), (_, *same) in zip(bad_calls(mine), bad_calls(peer), strict=True):
        with torch.set_grad_enabled(grad), pytest.raises((RuntimeError, ValueError, AttributeError, IndexError)) as wanted:
            peer(*same)
        with torch.set_grad_enabled(grad), pytest.raises((RuntimeError, ValueError, AttributeError, IndexError)) as got:
            mine(*given)
        assert grad or str(got.value).splitlines()[:1] == str(wanted.value).splitlines()[:1], name


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
    sizes = np.array([sum(n > t for n in lengths) for t in range(lengths[0])])
    assert lengths_of(sizes).tolist() == lengths
    parts = parts_of(sizes, worth)
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
    sizes = np.array([256] * 10 + [1] * 1990)
    seen = []

    def run(xs, state, traversal):
        seen.append(tuple(xs.shape[:2]))
        return xs, state

    data, state = torch.randn(4550, 1), (torch.randn(256, 1),)
    output, last = run_parts(parts_of(sizes, 1000), run, data, state, tt.kernels.FORWARD)
    assert seen == [(10, 256), (1990, 1)]
    assert torch.equal(output, data)
    assert torch.equal(last[0], state[0])
