"""Small calls: every way to change a weight between two of them is seen, by a layer at once and by a stream at ``refresh``."""

import copy
import io
import os
import threading

import numpy as np
import pytest
import torch
from _rounding import assert_close, path, rounding
from hypothesis import Phase, given, settings, strategies as st
from torch import nn
from torch.nn.utils import parametrize, prune

import throughtime as tt
from throughtime.nn import _short

I = H = 5
KINDS = {"rnn": (tt.RNN, nn.RNN), "gru": (tt.GRU, nn.GRU), "lstm": (tt.LSTM, nn.LSTM)}
NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l1", "weight_ih_l1")


@pytest.fixture(autouse=True)
def _counted(monkeypatch):
    """How many calls went the short way, so that a test can say that it tried it."""
    found = _short.several

    def counted(*arguments):
        result = found(*arguments)
        _counted.calls += result is not None
        return result

    _counted.calls = 0
    monkeypatch.setattr(_short, "several", counted)


def torchs(layer, kind):
    """torch's layer with the weights that ours has now, whatever computes them."""
    theirs = KINDS[kind][1](I, H, 2)
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            p.copy_(getattr(layer, name))
    return theirs


def outputs(layer, xs, hx, *, grad: bool) -> dict[str, torch.Tensor]:
    """Output, last state and gradients by name."""
    with torch.set_grad_enabled(grad):
        hs, last = layer(xs, hx)
    found = {"hs": hs} | dict(zip("hc", last if isinstance(last, tuple) else (last,), strict=False))
    if grad:
        leaves = dict(layer.named_parameters())
        found |= dict(zip(leaves, torch.autograd.grad(hs.square().sum(), list(leaves.values())), strict=True))
    return {name: x.detach() for name, x in found.items()}


def check(layer, kind, xs, hx, *, grad: bool) -> None:
    got, wanted = outputs(layer, xs, hx, grad=grad), outputs(torchs(layer, kind), xs, hx, grad=grad)
    if got.keys() != wanted.keys():  # leaves that are shared or reparametrised: those gradients are other tests' matter
        got, wanted = ({name: x for name, x in found.items() if name in "hs"} for found in (got, wanted))
    assert_close(got, wanted, rounding(path(len(xs), I + H, 2), condition=10.0))


# Every way to change a weight. Each takes a layer, the name of a weight and a number, and returns the layer to go on with.


def in_place(layer, name, c):
    with torch.no_grad():
        layer.get_parameter(name).mul_(c)
    return layer


def by_data(layer, name, c):
    layer.get_parameter(name).data.add_(c)
    return layer


def other_data(layer, name, c):
    p = layer.get_parameter(name)
    p.data = c * torch.ones_like(p.data).cumsum(0) / p.numel()
    return layer


def by_numpy(layer, name, c):
    layer.get_parameter(name).detach().numpy()[...] *= c
    return layer


def one_element(layer, name, c):
    layer.get_parameter(name).data.flatten()[1] = c
    return layer


def one_element_by_numpy(layer, name, c):
    np.from_dlpack(layer.get_parameter(name).detach()).reshape(-1)[2] = c
    return layer


def by_set(layer, name, c):
    p = layer.get_parameter(name)
    with torch.no_grad():
        p.set_(torch.full_like(p, c / 10))
    return layer


def new_parameter(layer, name, c):
    setattr(layer, name, nn.Parameter(c * layer.get_parameter(name).detach().clone()))
    return layer


def every_second_number(layer, name, c):
    p = layer.get_parameter(name)
    p.data = torch.stack((c * p.data, p.data), -1)[..., 0]
    return layer


def optimised(kind, **options):
    def by_optimiser(layer, name, c):
        optimizer = kind(layer.parameters(), lr=0.1 * abs(c), **options)
        for p in layer.parameters():
            p.grad = torch.full_like(p, c)
        optimizer.step()
        optimizer.zero_grad()
        return layer

    by_optimiser.__name__ = kind.__name__ + "".join(options)
    return by_optimiser


def loaded(layer, name, c):
    layer.load_state_dict({k: c * v for k, v in layer.state_dict().items()})
    return layer


def assigned(layer, name, c):
    layer.load_state_dict({k: c * v for k, v in layer.state_dict().items()}, assign=True)
    return layer


def from_vector(layer, name, c):
    nn.utils.vector_to_parameters(c * nn.utils.parameters_to_vector(layer.parameters()), layer.parameters())
    return layer


def there_and_back(layer, name, c):
    return layer.float().half().double()


def pickled(layer, name, c):
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def copied(layer, name, c):
    return in_place(copy.deepcopy(layer), name, c)


def shared(layer, name, c):
    layer.share_memory()
    return in_place(layer, name, c)


def tied(layer, name, c):
    layer.weight_ih_l1 = layer.weight_hh_l0
    return in_place(layer, "weight_hh_l0", c)


def reparametrised(layer, name, c):
    class Scaled(nn.Module):
        def forward(self, p):
            return c * p

    parametrize.register_parametrization(layer, name, Scaled())
    return layer


def pruned(layer, name, c):
    prune.random_unstructured(layer, name, 0.3)
    prune.remove(layer, name)
    return layer


def frozen(layer, name, c):
    layer.get_parameter(name).requires_grad_(False)
    return in_place(layer, name, c).requires_grad_(True)


CHANGES = [
    in_place, by_data, other_data, by_numpy, one_element, one_element_by_numpy, by_set, new_parameter, every_second_number,
    optimised(torch.optim.SGD), optimised(torch.optim.Adam, fused=True), optimised(torch.optim.AdamW, foreach=True), loaded, assigned,
    from_vector, there_and_back, pickled, copied, shared, tied, pruned, frozen,
]  # fmt: skip


def changed(layer, how, name, c):
    for computed in list(getattr(layer, "parametrizations", ())):  # their results become the weights
        parametrize.remove_parametrizations(layer, computed)
    for p in layer.parameters():
        p.data = p.data.contiguous()  # after every_second_number, for what torch does to dense weights alone
    return how(layer, name, c)


changes = st.tuples(st.sampled_from([*CHANGES, reparametrised]), st.sampled_from(NAMES), st.sampled_from([0.5, -1.25, 1.5]))
calls = st.tuples(st.sampled_from([1, 2, 3, 5]), st.sampled_from([1, 3]), st.booleans(), st.booleans())


@settings(max_examples=30, phases=(Phase.explicit, Phase.generate))  # to shrink a sequence takes minutes
@given(kind=st.sampled_from(list(KINDS)), sequence=st.lists(st.tuples(changes, calls), min_size=2, max_size=5))
def test_every_change_of_a_weight_is_seen_by_the_next_call(kind, sequence):
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    layer = KINDS[kind][0](I, H, 2)
    for (how, name, c), (T, B, given_state, grad) in sequence:
        layer = changed(layer, how, name, c)
        state = (torch.randn(2, B, H), torch.randn(2, B, H)) if kind == "lstm" else torch.randn(2, B, H)
        xs = torch.randn(T, B, I)
        check(layer, kind, xs, state if given_state else None, grad=grad)


@settings(max_examples=15, phases=(Phase.explicit, Phase.generate))
@given(kind=st.sampled_from(list(KINDS)), sequence=st.lists(changes, min_size=1, max_size=4))
def test_a_stream_keeps_its_weights_until_it_is_refreshed(kind, sequence):
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    layer, xs = KINDS[kind][0](I, H, 2), torch.randn(2, 3, I)
    stream = tt.Stream(layer, 3)
    for how, name, c in sequence:
        if how in (pickled, copied):
            continue  # those are other layers
        before = torchs(layer, kind)
        changed(layer, how, name, c)
        stream.reset()
        still = torch.stack([stream.push(x) for x in xs])
        stream.reset()
        stream.refresh()
        now = torch.stack([stream.push(x) for x in xs])
        wanted = [before(xs)[0].detach(), torchs(layer, kind)(xs)[0].detach()]
        assert_close([still, now], wanted, rounding(path(2, I + H, 2), condition=10.0))


@pytest.mark.parametrize("how", CHANGES, ids=lambda how: how.__name__)
def test_each_change_alone(how):
    """Also after a call that could have remembered something, and by the short way unless the memory is not dense."""
    layer, xs = tt.GRU(I, H, 2), torch.randn(1, 1, I)
    before = layer(xs)[0]
    layer = how(layer, "weight_ih_l0", 1.5)
    calls = _counted.calls
    check(layer, "gru", xs, None, grad=False)
    assert _counted.calls - calls == (how is not every_second_number)
    if how not in (pickled, there_and_back, frozen, tied, shared, copied):
        assert not torch.equal(layer(xs)[0], before)


def test_a_functional_call_uses_the_weights_that_it_is_given():
    layer, xs = tt.LSTM(I, H, 2), torch.randn(1, 2, I)
    given_weights = {name: 2 * p.detach() for name, p in layer.named_parameters()}
    theirs = nn.LSTM(I, H, 2)
    theirs.load_state_dict(given_weights)
    assert_close([torch.func.functional_call(layer, given_weights, xs)[0]], [theirs(xs)[0]], rounding(path(1, 2 * I, 2)))


def test_a_weight_shared_by_two_layers():
    one, two = tt.GRU(I, I), tt.GRU(I, I)
    two.weight_hh_l0, two.weight_ih_l0 = one.weight_hh_l0, one.weight_ih_l0
    theirs = [nn.GRU(I, I), nn.GRU(I, I)]
    for mine, other in zip((one, two), theirs, strict=True):
        other.load_state_dict(mine.state_dict())
    theirs[1].weight_hh_l0, theirs[1].weight_ih_l0 = theirs[0].weight_hh_l0, theirs[0].weight_ih_l0
    xs, found = torch.randn(2, 3, I), []
    for a, b in ((one, two), theirs):
        b(a(xs)[0])[0].square().sum().backward()
        found.append([a.weight_hh_l0.grad, a.weight_ih_l0.grad])
    assert_close(found[0], found[1], rounding(path(2, 2 * I, 2), condition=10.0))


def test_what_goes_the_short_way_and_what_does_not():
    def took(layer, *arguments, **options) -> bool:
        before = _counted.calls
        layer(*arguments, **options)
        return _counted.calls > before

    xs, layer = torch.randn(3, 2, I), tt.GRU(I, H, 2)
    assert took(layer, xs)
    assert took(layer, xs, torch.zeros(2, 2, H))
    assert took(tt.GRU(I, H, batch_first=True), xs)
    assert took(tt.GRU(I, H, 2, dropout=0.5).eval(), xs)
    assert took(tt.RNN(I, H, nonlinearity="sigmoid"), xs)
    assert not took(layer, xs, lengths=[3, 1])
    assert not took(layer, xs, reset=torch.tensor([True, False]))
    assert not took(layer, xs[:, 0])
    for options in ({"bidirectional": True}, {"dropout": 0.5}, {"learn_h0": True}, {"layer_norm": True}, {"zoneout": 0.1}):
        assert not took(tt.GRU(I, H, 2, **options), xs)
    assert not took(tt.RNN(I, H, nonlinearity=torch.sin), xs)
    tt.set_kernels("plain")
    assert not took(layer, xs)
    tt.set_kernels("fast")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not took(layer.float(), xs.float())


def test_two_threads_call_one_layer():
    layer, xs = tt.LSTM(16, 16, 2), torch.randn(8, 1, 4, 16)
    wanted, wrong = [layer(x)[0].detach() for x in xs], []

    def work() -> None:
        for _ in range(50):
            for x, y in zip(xs, wanted, strict=True):
                with torch.no_grad():
                    if not torch.equal(layer(x)[0], y):
                        wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_goes_on():
    layer, x = tt.GRU(I, H), torch.randn(1, 2, I)
    stream = tt.Stream(layer, 2)
    stream.push(x[0])
    called, state, child = layer(x)[1], stream.state[0], os.fork()
    if child == 0:
        same = torch.equal(layer(x)[1], called) and torch.equal(stream.state[0], state) and stream.push(x[0]).isfinite().all()
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
