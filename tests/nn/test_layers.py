"""RNN, GRU and LSTM with torch's face: beside torch's own from the same seed, and each option against what it is defined as."""

import copy
import inspect
import io
import itertools
import pickle
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import torch
from _rounding import path, rounding
from _truth import assert_close, gradients
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import throughtime as tt
from throughtime.nn import Layers

PAIRS = [(tt.RNN, nn.RNN), (tt.GRU, nn.GRU), (tt.LSTM, nn.LSTM)]
OURS = [ours for ours, _ in PAIRS]
T, B, I, H = 6, 4, 3, 5


def state_of(end) -> tuple[torch.Tensor, ...]:
    return end if isinstance(end, tuple) else (end,)


def as_hx(layer, state):
    return tuple(state) if isinstance(layer, nn.LSTM) else state[0]


def random_state(layer, B=B):
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    sizes = [layer.proj_size or H] + [H] * isinstance(layer, nn.LSTM)
    return [torch.randn(rows, B, size, requires_grad=True) for size in sizes]


def differentiated(outputs, inputs, seed=1):
    """Outputs, and their gradients for a random cotangent."""
    torch.manual_seed(seed)
    return [*outputs, *gradients(outputs, [torch.randn_like(y) for y in outputs], inputs)]


GRID = list(itertools.product([True, False], [False, True], [False, True], [1, 2], ["batch", "single", "packed"], [0, 2]))


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_beside_torch_from_the_same_seed(ours, theirs):
    for bias, bidirectional, batch_first, layers, manner, proj in GRID:
        if proj and ours is not tt.LSTM:
            continue
        options = {"num_layers": layers, "bias": bias, "bidirectional": bidirectional, "batch_first": batch_first}
        options |= {"proj_size": proj} if proj else {}
        modules = []
        for kind in (ours, theirs):
            torch.manual_seed(3)
            modules.append(kind(I, H, **options))
        mine, peer = modules
        assert isinstance(mine, theirs)
        assert repr(mine) == repr(peer)
        assert mine.all_weights[0][0] is mine.weight_ih_l0
        assert list(mine.state_dict()) == list(peer.state_dict())
        assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), peer.parameters(), strict=True))
        xs = torch.randn((B, T, I) if batch_first else (T, B, I))
        xs = (xs[0] if batch_first else xs[:, 0]) if manner == "single" else xs
        state = [s.detach()[:, 0].requires_grad_() for s in random_state(mine)] if manner == "single" else random_state(mine)
        results = []
        for module in modules:
            leaf = xs.clone().requires_grad_()
            given = pack_padded_sequence(leaf, [3, 6, 1, 6], batch_first, enforce_sorted=False) if manner == "packed" else leaf
            output, last = module(given, as_hx(module, state))
            output = output.data if manner == "packed" else output
            results.append(differentiated([output, *state_of(last)], [leaf, *state, *module.parameters()]))
        assert_close(*results)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_the_same_dropout_between_layers_under_the_same_seed(ours, theirs):
    mine, peer = ours(I, H, 3, dropout=0.4), theirs(I, H, 3, dropout=0.4)
    peer.load_state_dict(mine.state_dict())
    xs, outputs = torch.randn(T, B, I), []
    for module in (mine, peer):
        torch.manual_seed(5)
        outputs.append(module(xs)[0])
    assert_close([outputs[0]], [outputs[1]])


def by_pieces(peer, xs, state, starts, lengths, restart):
    """Each sequence cut where a reset stands and run piece by piece by torch's module; in reverse from its end."""
    outputs, lasts = torch.zeros(T, B, H, dtype=xs.dtype), []
    reverse = peer is None
    assert not reverse
    for b in range(B):
        s = [part[:, b : b + 1] for part in state]
        cuts = [0, *[t for t in range(1, lengths[b]) if starts[t, b]], lengths[b]]
        if lengths[b] and starts[0, b]:
            s = [part[:, b : b + 1] for part in restart]
        for start, stop in itertools.pairwise(cuts):
            if stop == start:
                continue
            if start:
                s = [part[:, b : b + 1] for part in restart]
            y, end = peer(xs[start:stop, b : b + 1], as_hx(peer, s))
            outputs = outputs.index_put((torch.arange(start, stop), torch.tensor(b)), y[:, 0])
            s = list(state_of(end))
        lasts.append(s)
    return outputs, [torch.cat(parts, 1) for parts in zip(*lasts, strict=True)]


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_lengths_and_resets_are_sequences_cut_to_pieces(ours, theirs, backwards, learn):
    mine, peer = ours(I, H, bidirectional=True, learn_h0=learn), theirs(I, H)
    suffix = "_reverse" if backwards else ""
    peer.load_state_dict({name: getattr(mine, name + suffix).detach() for name in peer.state_dict()})
    if learn:
        with torch.no_grad():
            for name in ("h_0", "c_0")[: len(random_state(mine))]:
                mine.get_parameter(name).normal_()
    xs, lengths, starts = torch.randn(T, B, I, requires_grad=True), torch.tensor([4, 6, 0, 3]), torch.rand(T, B) < 0.4
    starts[3, 0] = starts[4, 0] = starts[2, 1] = True
    state, one = random_state(mine), int(backwards)
    output, last = mine(xs, as_hx(mine, state), lengths=lengths.int(), reset=starts)
    got = [output[..., one * H : (one + 1) * H], *(s[one : one + 1] for s in state_of(last))]

    learned = [mine.get_parameter(f"{name}_0")[one : one + 1] for name in ("h", "c")[: len(state)]] if learn else []
    restart = [s.expand(-1, B, -1) for s in learned] or [torch.zeros_like(s[:1]) for s in state]
    given = [s[one : one + 1] for s in state]
    if backwards:  # turn each sequence round its own length; a border before t is one after the turned t
        turn = lambda rows: torch.stack([torch.cat((rows[:n, b].flip(0), rows[n:, b])) for b, n in enumerate(lengths)], 1)
        borders = torch.zeros_like(starts)
        for b, n in enumerate(lengths.tolist()):
            for t in range(1, n):
                borders[n - t, b] = starts[t, b]
        wanted, ends = by_pieces(peer, turn(xs), given, borders, lengths.tolist(), restart)
        wanted = turn(wanted)
    else:
        wanted, ends = by_pieces(peer, xs, given, starts, lengths.tolist(), restart)
    mine_now = [p for name, p in mine.named_parameters() if name.startswith(("weight", "bias")) and ("_reverse" in name) == backwards]
    free = [mine.get_parameter(f"{name}_0") for name in ("h", "c")[: len(state)]] if learn else []
    assert_close(
        differentiated(got, [xs, *state, *mine_now, *free]),
        differentiated([wanted, *ends], [xs, *state, *peer.parameters(), *free]),
    )


@pytest.mark.parametrize("ours", OURS)
def test_a_reset_of_whole_streams_is_another_initial_state(ours):
    layer = ours(I, H, 2, bidirectional=True, learn_h0=True)
    xs, state, fresh = torch.randn(T, B, I), random_state(layer), torch.tensor([True, False, True, False])
    start = [layer.get_parameter(f"{name}_0").expand(-1, B, -1) for name in ("h", "c")[: len(state)]]
    mixed = [torch.where(fresh.view(1, -1, 1), a, b) for a, b in zip(start, state, strict=True)]
    for got, wanted in zip(layer(xs, as_hx(layer, state), reset=fresh), layer(xs, as_hx(layer, mixed)), strict=True):
        assert_close(state_of(got), state_of(wanted), 0.0)
    assert_close(state_of(layer(xs)[0]), state_of(layer(xs, as_hx(layer, start))[0]), 0.0)


def literal(layer, xs, state, *, mask=None, kept=None, norm=lambda a, name: a, projected=lambda h: h):
    """One layer by torch's cell, step by step, with what an option does written out."""
    weight = lambda name: getattr(layer, f"{name}_l0")
    step, hs, state = layer._step(), [], list(state)
    for t in range(len(xs)):
        h = state[0] if mask is None else mask * state[0]
        wx = norm(xs[t] @ weight("weight_ih").T, "norm_ih") + weight("bias_ih")
        rh = norm(h @ weight("weight_hh").T, "norm_hh") + weight("bias_hh")
        gates = (step.gates, H)
        new = list(step.step(wx.unflatten(1, gates), rh.unflatten(1, gates), tuple(state)))
        if layer.layer_norm and len(new) > 1:
            o = torch.sigmoid(wx.unflatten(1, gates)[:, 3] + rh.unflatten(1, gates)[:, 3])
            mean, var = new[1].mean(1, keepdim=True), new[1].var(1, unbiased=False, keepdim=True)
            new[0] = o * torch.tanh((new[1] - mean) / (var + 1e-5).sqrt() * weight("norm_c") + weight("norm_c_bias"))
        if kept is not None:
            new = [k[t] * old + (1 - k[t]) * fresh for k, old, fresh in zip(kept, state, new, strict=True)]
        state = new
        hs.append(state[0])
    return [torch.stack(hs), *state]


def compare_with_literal(layer, **options):
    xs, state = torch.randn(T, B, I, requires_grad=True), [s.detach()[0].requires_grad_() for s in random_state(layer)]
    torch.manual_seed(7)
    output, last = layer(xs, as_hx(layer, [s.unsqueeze(0) for s in state]))
    inputs = [xs, *state, *layer.parameters()]
    wanted = literal(layer, xs, state, **options)
    assert_close(differentiated([output, *(s[0] for s in state_of(last))], inputs), differentiated(wanted, inputs))


@pytest.mark.parametrize("ours", OURS)
def test_recurrent_dropout_is_one_mask_a_sequence(ours):
    layer = ours(I, H, recurrent_dropout=0.4)
    torch.manual_seed(7)
    mask = nn.functional.dropout(torch.ones(B, H), 0.4)
    assert 0 < (mask == 0).sum() < mask.numel()
    compare_with_literal(layer, mask=mask)
    layer.eval()
    compare_with_literal(layer)


@pytest.mark.parametrize("ours", OURS)
def test_zoneout_keeps_units_and_in_evaluation_their_mean(ours):
    layer = ours(I, H, zoneout=0.3)
    states = len(random_state(layer))
    torch.manual_seed(7)
    compare_with_literal(layer, kept=[(torch.rand(T, B, H) < 0.3).double() for _ in range(states)])
    layer.eval()
    compare_with_literal(layer, kept=[torch.full((T, B, H), 0.3)] * states)


@pytest.mark.parametrize("ours", OURS)
def test_layer_norm(ours):
    layer = ours(I, H, layer_norm=True)
    with torch.no_grad():
        for name, p in layer.named_parameters():
            assert not name.startswith("norm") or (p == (0.0 if "bias" in name else 1.0)).all()
            p.normal_()

    def norm(a, name):
        mean, var = a.mean(1, keepdim=True), a.var(1, unbiased=False, keepdim=True)
        return (a - mean) / (var + 1e-5).sqrt() * getattr(layer, f"{name}_l0")

    compare_with_literal(layer, norm=norm)


def square(a):
    return a * a / (1 + a * a)


@pytest.mark.parametrize(
    ("word", "phi"), [("tanh", torch.tanh), ("relu", torch.relu), ("identity", lambda a: a), ("sigmoid", torch.sigmoid), (square, square)]
)
@pytest.mark.parametrize("positional", [False, True])
def test_any_nonlinearity(word, phi, positional):
    layer = tt.RNN(I, H, 1, word, True) if positional else tt.RNN(I, H, nonlinearity=word)
    xs, h = torch.randn(T, B, I), torch.randn(B, H)
    output, _ = layer(xs, h.unsqueeze(0))
    cell = tt.RNNCell(I, H, nonlinearity=word)
    cell.load_state_dict({name[:-3]: p for name, p in layer.state_dict().items()})
    for t in range(T):
        wanted = phi(xs[t] @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T + layer.bias_hh_l0)
        assert_close([cell(xs[t], h)], [wanted])
        h = wanted
        assert_close([output[t]], [h])


@pytest.mark.parametrize(
    "options", [{"recurrent_dropout": 0.3}, {"zoneout": 0.3}, {"layer_norm": True}, {"learn_h0": True, "memory": "lean"}], ids=str
)
@pytest.mark.parametrize("ours", OURS)
def test_every_option_has_its_gradients_and_theirs(ours, options):
    layer = ours(2, 2, bidirectional=True, **options)
    lengths, reset = torch.tensor([3, 2]), torch.rand(3, 2) < 0.4

    def run(xs, *weights):
        torch.manual_seed(2)
        named = dict(zip(dict(layer.named_parameters()), weights, strict=True))
        output, last = torch.func.functional_call(layer, named, (xs,), {"lengths": lengths, "reset": reset})
        return output, *state_of(last)

    inputs = (torch.randn(3, 2, 2, requires_grad=True), *layer.parameters())
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True, check_undefined_grad=False)
    if not layer.layer_norm:  # whose second derivative is torch's, and takes half a minute to check
        assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True, check_undefined_grad=False)


@pytest.mark.parametrize("ours", OURS)
def test_states_batch_first(ours):
    layer, other = ours(I, H, 2, state_batch_first=True, batch_first=True), ours(I, H, 2, batch_first=True)
    other.load_state_dict(layer.state_dict())
    xs, state = torch.randn(B, T, I), random_state(layer)
    turned = [s.transpose(0, 1) for s in state]
    output, last = layer(xs, as_hx(layer, turned))
    wanted, end = other(xs, as_hx(other, state))
    assert_close([output, *state_of(last)], [wanted, *(s.transpose(0, 1) for s in state_of(end))], 0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("ours", OURS)
def test_one_gradient_a_sample_and_forward_mode(ours, dtype):
    layer = ours(I, H, 2, bidirectional=True, dtype=dtype)
    weights, many = dict(layer.named_parameters()), torch.randn(3, T, B, I, dtype=dtype)
    weights = {name: p.detach() for name, p in weights.items()}
    loss = lambda weights, xs: torch.func.functional_call(layer, weights, (xs,))[0].square().sum()
    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, many)
    for k, xs in enumerate(many):
        leaves = {name: p.clone().requires_grad_() for name, p in weights.items()}
        wanted = torch.autograd.grad(loss(leaves, xs), list(leaves.values()))
        assert_close([g[k] for g in each.values()], wanted, rounding(path(T, 2 * H, 2), dtype=dtype))
    tangents = {name: torch.randn_like(p) for name, p in weights.items()}
    along = torch.func.jvp(lambda w: loss(w, many[0]), (weights,), (tangents,))[1]
    wanted = sum((each[name][0] * v).sum() for name, v in tangents.items())
    assert_close([along], [wanted], rounding(path(T, 2 * H, 2), condition=10.0, dtype=dtype))


@pytest.mark.slow  # tests/kernels/test_operators.py compiles the operator
def test_compiles_to_one_node_a_layer():
    """In a process of its own: the checks of shapes in this one are not for torch.compile to see."""
    subprocess.run([sys.executable, Path(__file__).with_name("compiled.py")], check=True)


@pytest.mark.parametrize("ours", OURS)
def test_copies_pickles_and_files(ours):
    layer = ours(I, H, 2, zoneout=0.2, learn_h0=True).eval()
    xs, file = torch.randn(T, B, I), io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = ours(I, H, 2, zoneout=0.2, learn_h0=True).eval()
    other.load_state_dict(torch.load(file))
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), other):
        assert torch.equal(copied(xs)[0], layer(xs)[0])
    assert not torch.equal(layer.float()(xs.float())[0].double(), other(xs)[0])


@pytest.mark.parametrize("ours", OURS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_right(ours, dtype):
    layer = ours(I, H, 2, dtype=dtype)
    exact = copy.deepcopy(layer).double()
    xs = torch.randn(T, B, I, dtype=dtype)
    output, _ = layer(xs)
    assert output.dtype == dtype
    output.float().square().sum().backward()
    wanted, _ = exact(xs.double())
    wanted.square().sum().backward()
    # What is rounded: each layer's output once, (T, B, ·) of it, and the gradients; all of them below 8 in size.
    tolerance = rounding(2, dtype=dtype)
    assert_close([output.double()], [wanted], tolerance)
    assert_close([p.grad.double() for p in layer.parameters()], [p.grad for p in exact.parameters()], tolerance)


@pytest.mark.parametrize("ours", OURS)
def test_autocast_is_right(ours):
    layer, xs = ours(I, H, dtype=torch.float32), torch.randn(T, B, I, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = layer(xs)
        mixed, _ = layer(xs.bfloat16())
    assert mixed.dtype == torch.bfloat16
    assert output.dtype == (torch.float32 if ours is tt.GRU else torch.bfloat16)  # torch's z ⊙ h keeps the precision of h
    assert_close([output.float(), mixed.float()], [layer(xs)[0]] * 2, rounding(2, dtype=torch.bfloat16))


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_back_to_torch(ours, theirs):
    layer = ours(I, H, 2, bidirectional=True, batch_first=True, bias=False, memory="lean").eval()
    module, xs = layer.to_torch(), torch.randn(B, T, I)
    assert type(module) is theirs
    assert not module.training
    assert_close([module(xs)[0]], [layer(xs)[0]])
    with pytest.raises(NotImplementedError, match=f"{theirs.__name__} has learn_h0, zoneout, which torch.nn.{theirs.__name__} lacks"):
        ours(I, H, learn_h0=True, zoneout=0.1).to_torch()
    with pytest.raises(NotImplementedError, match="nonlinearity='sigmoid'"):
        tt.RNN(I, H, nonlinearity="sigmoid").to_torch()


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_batches_of_nothing_as_torch(ours, theirs):
    assert ours(I, H)(torch.zeros(T, 0, I))[0].shape == (T, 0, H)
    with pytest.raises(RuntimeError, match="Expected sequence length to be larger than 0 in RNN"):
        ours(I, H)(torch.zeros(0, B, I))


WRONG = [
    ({"lengths": torch.tensor([1, 2, 3])}, r"lengths are torch.int64 of shape \(3,\); expected integers of shape \(B,\) = \(4,\)"),
    ({"lengths": [1, 2, 3, 7]}, "lengths go from 1 to 7; expected 0 to T = 6"),
    ({"lengths": [1, -2, 3, 6]}, "lengths go from -2 to 6; expected 0 to T = 6"),
    ({"lengths": torch.ones(4).double()}, "lengths are torch.float64"),
    (
        {"reset": torch.ones(5).double()},
        r"reset is torch.float64 of shape \(5,\); expected True or 1 where a state restarts, of shape \(B,\)",
    ),
    ({"reset": torch.full((4,), 0.5)}, r"reset has values other than 0 and 1; .* Use reset > 0.5"),
    (
        {"reset": torch.ones(4, 6, dtype=torch.bool)},
        r"or \(T, B\) = \(6, 4\)\. Time comes first even where the layer is batch_first: use reset.T",
    ),
]


@pytest.mark.parametrize(("options", "sentence"), WRONG)
@pytest.mark.parametrize("ours", OURS)
def test_bad_calls(ours, options, sentence):
    with pytest.raises(tt.InputError, match=sentence):
        ours(I, H)(torch.zeros(T, B, I), **options)


@pytest.mark.usefixtures("shapes_unchecked")
def test_bad_options():
    with pytest.raises(tt.InputError, match=r"zoneout is 1\.0; expected a number in \[0, 1\)"):
        tt.GRU(I, H, zoneout=1.0)
    with pytest.raises(tt.InputError, match=r"recurrent_dropout is -1; expected a number in \[0, 1\)"):
        tt.GRU(I, H, recurrent_dropout=-1)
    with pytest.raises(tt.InputError, match="memory is 'small'; expected 'fast' or 'lean'"):
        tt.LSTM(I, H, memory="small")
    with pytest.raises(tt.InputError, match=r"nonlinearity is 3; expected 'tanh', 'relu', 'identity', 'sigmoid' or a callable"):
        tt.RNN(I, H, nonlinearity=3)
    with pytest.raises(ValueError, match="Unknown nonlinearity 'cosine'"):
        tt.RNN(I, H, nonlinearity="cosine")
    packed = pack_padded_sequence(torch.zeros(T, B, I), [6, 5, 2, 1])
    with pytest.raises(tt.InputError, match="which has its own; expected one of the two"):
        tt.GRU(I, H)(packed, lengths=[6, 5, 2, 1])
    with pytest.raises(RuntimeError, match=r"the input is on meta and the layer's weights are on cpu; expected one device"):
        tt.GRU(I, H)(torch.zeros(T, B, I, device="meta"))


@pytest.mark.parametrize("ours", OURS)
def test_not_a_number_goes_through(ours):
    xs = torch.randn(T, B, I)
    xs[2, 1, 0] = torch.nan
    output, _ = ours(I, H)(xs)
    assert output[2:, 1].isnan().all()
    assert not output[:2].isnan().any()
    assert not output[:, [0, 2, 3]].isnan().any()


@pytest.mark.parametrize("ours", OURS)
def test_padding_may_be_not_a_number(ours):
    layer, xs = ours(I, H), torch.randn(T, B, I)
    wanted = layer(xs, lengths=[6, 2, 3, 1])[0]
    xs[2:, 1] = torch.nan
    for made in (layer, ours(I, H, layer_norm=True)):
        output, _ = made(xs.requires_grad_(), lengths=[6, 2, 3, 1])
        output.sum().backward()
        assert not any(p.grad.isnan().any() for p in made.parameters())
    assert torch.equal(layer(xs, lengths=[6, 2, 3, 1])[0], wanted)


def test_options_show():
    assert repr(tt.GRU(3, 5, num_layers=2, zoneout=0.1, memory="lean")) == "GRU(3, 5, num_layers=2, zoneout=0.1, memory='lean')"
    assert repr(tt.RNN(3, 5, nonlinearity="sigmoid")) == "RNN(3, 5, nonlinearity='sigmoid')"
    assert issubclass(tt.GRU, Layers)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_the_signature_is_torchs_and_then_ours(kind):
    """What ``help`` and an editor show; torch's own signature is that of its first overload."""
    ours = inspect.signature(getattr(tt, kind)).parameters
    theirs = inspect.signature(typing.get_overloads(getattr(nn, kind).__init__)[0]).parameters
    names = [name for name in theirs if name != "self"]
    assert list(ours)[: len(names)] == names
    assert [ours[name].default for name in names] == [theirs[name].default for name in names]
    options = [name for name in inspect.signature(tt.nn.Layers.__init__).parameters if name not in ("self", "args", "kwargs")]
    assert [name for name in list(ours)[len(names) :] if name != "proj_size"] == options


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "identity", "sigmoid", torch.sin])
def test_a_nonlinearity_goes_by_place_or_by_name(nonlinearity):
    by_place, by_name = tt.RNN(3, 5, 1, nonlinearity), tt.RNN(3, 5, nonlinearity=nonlinearity)
    assert by_place.nonlinearity == by_name.nonlinearity == nonlinearity
    assert by_place.mode == ("RNN_RELU" if nonlinearity == "relu" else "RNN_TANH")


# What other numbers mean, and what sees every operation of a layer with options.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.uint8, torch.float16])
def test_dones_of_any_type_reset(dtype):
    """Reinforcement learners have 0.0 and 1.0."""
    layer, xs, reset = tt.GRU(I, H), torch.randn(T, B, I), torch.arange(T * B).view(T, B) % 3 == 0
    assert torch.equal(layer(xs, reset=reset.to(dtype))[0], layer(xs, reset=reset)[0])
    assert torch.equal(layer(xs, reset=reset[0].to(dtype))[0], layer(xs, reset=reset[0])[0])


OPTIONED = {
    "lengths": ({}, {"lengths": torch.tensor([6, 1, 4, 0])}),
    "reset": ({}, {"reset": torch.arange(T * B).view(T, B) % 3 == 0}),
    "learn_h0": ({"learn_h0": True, "bidirectional": True}, {}),
    "layer_norm": ({"layer_norm": True}, {}),
}


def transformed():
    from torch.fx.experimental.proxy_tensor import make_fx

    return {
        "make_fx": lambda call, xs: make_fx(call)(xs),
        "jit.trace": lambda call, xs: torch.jit.trace(call, xs),
        "functionalize": lambda call, xs: torch.func.functionalize(call),
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("how", ["make_fx", "jit.trace", "functionalize"])
@pytest.mark.parametrize("option", OPTIONED)
@pytest.mark.parametrize("ours", [tt.RNN, tt.GRU, tt.LSTM])
def test_a_graph_of_a_layer_with_options_is_right_for_other_numbers(ours, option, how):
    made, given = OPTIONED[option]
    layer, xs = ours(I, H, **made), torch.randn(T, B, I)

    class Call(torch.nn.Module):
        """A module, since jit.trace takes no weights from a function."""

        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, xs):
            return self.layer(xs, **given)[0]

    call = Call()
    with torch.no_grad():
        assert_close([transformed()[how](call, xs)(2 * xs)], [call(2 * xs)])


@pytest.mark.parametrize("option", OPTIONED)
@pytest.mark.parametrize("ours", [tt.RNN, tt.GRU, tt.LSTM])
def test_a_layer_with_options_on_meta_has_shapes(ours, option):
    made, given = OPTIONED[option]
    layer, xs = ours(I, H, **made), torch.randn(T, B, I)
    shape = layer(xs, **given)[0].shape
    assert layer.to("meta")(xs.to("meta"), **{name: t.to("meta") for name, t in given.items()})[0].shape == shape


@pytest.mark.parametrize("option", ["lengths", "reset"])
@pytest.mark.parametrize("ours", [tt.RNN, tt.GRU, tt.LSTM])
def test_many_adjoints_at_once(ours, option):
    layer, xs = ours(I, H, 2), torch.randn(T, B, I, requires_grad=True)
    output, last = layer(xs, **OPTIONED[option][1])
    ys, ds = [output, *(last if isinstance(last, tuple) else (last,))], [torch.randn(3, *y.shape) for y in (output,)]
    at_once = torch.autograd.grad(ys[0], [xs, *layer.parameters()], ds[0], is_grads_batched=True, retain_graph=True)
    one_by_one = [torch.autograd.grad(ys[0], [xs, *layer.parameters()], d, retain_graph=True) for d in ds[0]]
    assert_close(at_once, [torch.stack(each) for each in zip(*one_by_one, strict=True)])


@pytest.mark.parametrize("ours", [tt.RNN, tt.GRU, tt.LSTM])
def test_the_operators_flops_are_those_of_the_definition(ours):
    """The plain loop as a graph of torch's own products, which torch counts, against the formulas of the two operators."""
    from torch.utils.flop_counter import FlopCounterMode

    layer, xs = ours(I, H), torch.randn(T, B, I, requires_grad=True)
    h = torch.zeros(1, B, H, requires_grad=True)  # with a gradient of its own, so that every step has the product back through R

    def counted():
        with FlopCounterMode(display=False) as counter:
            output, _ = layer(xs, (h, h) if ours is tt.LSTM else h, lengths=[T] * B)
            forward = counter.get_total_flops()
            output.sum().backward()
        return forward, counter.get_total_flops()

    found = counted()
    tt.set_kernels("plain")
    wanted = counted()
    tt.set_kernels("fast")
    assert found == wanted
    G = layer.weight_hh_l0.shape[0] // H
    assert found == (2 * T * B * G * H * (I + H), 6 * T * B * G * H * (I + H))
