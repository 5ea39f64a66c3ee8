"""Somebody else's model made faster in place, and given back."""

import abc
import copy
import logging
import math
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from _rounding import path
from _truth import assert_close, rounding
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import throughtime as tt

KINDS = [(nn.RNN, tt.RNN), (nn.GRU, tt.GRU), (nn.LSTM, tt.LSTM)]


class Tagger(nn.Module):
    """What others write: an embedding, a recurrent layer, a cell, a head, tied weights."""

    def __init__(self, kind):
        super().__init__()
        self.embedding, self.rnn, self.again = nn.Embedding(7, 5), kind(5, 5, 2, batch_first=True), kind(5, 5)
        self.head, self.cell = nn.Linear(5, 7), nn.GRUCell(5, 5)
        self.head.weight = self.embedding.weight
        self.again.weight_hh_l0 = self.rnn.weight_hh_l1

    def forward(self, tokens):
        hs, _ = self.rnn(self.embedding(tokens))
        return self.head(self.again(hs)[0])


def trained(model, tokens, steps=4):
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return [*losses, *model.parameters()]


@pytest.mark.parametrize(("theirs", "ours"), KINDS)
def test_a_model_trains_to_the_same_weights(theirs, ours):
    model, tokens = Tagger(theirs), torch.randint(7, (3, 6))
    names, keys = dict(model.named_parameters()), list(model.state_dict())
    wanted = trained(copy.deepcopy(model), tokens)
    done = []
    assert tt.accelerate(model, report=done.append) is model
    assert done[0].replaced == ("rnn", "again")
    assert done[0].left == (("cell", "a single step has no sequence to keep its weights packed over"),)
    assert isinstance(model.rnn, ours)
    assert model.again.weight_hh_l0 is model.rnn.weight_hh_l1
    assert all(p is names[name] for name, p in model.named_parameters())
    assert list(model.state_dict()) == keys
    assert_close(
        trained(model, tokens), wanted, rounding(path(6, 17, 2), condition=1e3)
    )  # Adam divides by small numbers: up to 1e3 times the error
    output = model(tokens)
    assert tt.restore(model) is model
    assert type(model.rnn) is theirs
    assert_close([model(tokens)], [output])


def test_an_optimiser_that_came_before_stays_right():
    model, tokens = Tagger(nn.GRU), torch.randint(7, (3, 6))
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    tt.accelerate(model)
    before = [p.detach().clone() for p in model.rnn.parameters()]
    model(tokens).sum().backward()
    optimiser.step()
    assert all((p != old).any() for p, old in zip(model.rnn.parameters(), before, strict=True))


@pytest.mark.parametrize(
    "wrap", [nn.utils.weight_norm, parametrizations.weight_norm, parametrizations.orthogonal], ids=["hook", "norm", "orthogonal"]
)
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize(("theirs", "ours"), KINDS)
def test_reparametrised_weights(theirs, ours, wrap):
    layer, xs = wrap(theirs(3, 5), "weight_hh_l0"), torch.randn(6, 4, 3)
    names = [name for name, _ in layer.named_parameters()]

    def results():
        layer.zero_grad()
        output, _ = layer(xs)
        output.square().sum().backward()
        return [output, *(p.grad.clone() for p in layer.parameters())]

    wanted = results()
    kind = type(layer)
    tt.accelerate(layer)
    assert isinstance(layer, ours)
    assert [name for name, _ in layer.named_parameters()] == names
    assert_close(results(), wanted)
    tt.restore(layer)
    assert not isinstance(layer, ours)
    assert type(layer).__name__ == kind.__name__
    assert_close(results(), wanted)


class Forgetful(nn.LSTM):
    """A subclass that overrides anything but forward: its start, an attribute, a method more."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.calls = 0

    def reset_parameters(self):
        super().reset_parameters()
        with torch.no_grad():
            self.bias_ih_l0[self.hidden_size : 2 * self.hidden_size] = 2.0

    def flatten_parameters(self):
        super().flatten_parameters()


class MoreForgetful(Forgetful):
    def forget_bias(self):
        return self.bias_ih_l0[self.hidden_size : 2 * self.hidden_size]


@pytest.mark.parametrize("kind", [Forgetful, MoreForgetful])
@pytest.mark.parametrize("wrap", [lambda layer: layer, lambda layer: parametrizations.weight_norm(layer, "weight_hh_l0")], ids=["", "norm"])
def test_a_subclass_with_torchs_forward_is_exchanged_and_given_back(kind, wrap):
    layer, xs = wrap(kind(3, 5)), torch.randn(6, 4, 3)
    before, wanted = type(layer), layer(xs)[0]
    tt.accelerate(layer)
    assert isinstance(layer, tt.LSTM)
    assert isinstance(layer, kind)
    assert type(layer).forward is tt.LSTM.forward
    assert type(layer).__name__ == before.__name__
    assert_close([layer(xs)[0]], [wanted])
    layer.reset_parameters()
    assert (layer.bias_ih_l0[5:10] == 2).all()
    tt.restore(layer)
    assert parametrize.type_before_parametrizations(layer) is kind
    assert type(layer).__name__ == before.__name__


def test_an_accelerated_subclass_is_copied_and_saved_as_what_it_was():
    layer, xs = tt.accelerate(MoreForgetful(3, 5)), torch.randn(6, 4, 3)
    for other, kind in ((copy.deepcopy(layer), type(layer)), (pickle.loads(pickle.dumps(layer)), MoreForgetful)):
        assert type(other) is kind
        assert_close([other(xs)[0]], [layer(xs)[0]])
        assert other.forget_bias().data_ptr() != layer.forget_bias().data_ptr()
    assert type(tt.accelerate(MoreForgetful(3, 5))) is type(layer)


class Reader(nn.GRU):
    """A subclass with a name that ours has too."""

    memory = 3


class Swapped(nn.GRU):
    def permute_hidden(self, hx, permutation):
        return hx


class Stubborn(nn.LSTM):
    def forward(self, input, hx=None):
        return nn.LSTM.forward(self, input, hx)[0]


def test_what_is_left_is_said(caplog):
    replaced, here = nn.GRU(3, 5), __name__
    replaced.forward = lambda xs: xs
    with caplog.at_level(logging.INFO, "throughtime"):
        tt.accelerate(nn.ModuleDict({"a": Stubborn(3, 5), "b": replaced, "c": nn.RNN(3, 5), "d": Reader(3, 5), "e": Swapped(3, 5)}))
    assert caplog.messages == [
        "accelerated 1 recurrent layer(s): c\n"
        f"left a: it is a {here}.Stubborn, whose own forward does not call super().forward\n"
        "left b: its forward has been replaced on the object\n"
        f"left d: it is a {here}.Reader with its own memory, a name that ours uses for something else\n"
        f"left e: it is a {here}.Swapped with its own permute_hidden, which ours does not run"
    ]
    assert caplog.records[0].levelno == logging.WARNING


def test_nothing_to_do_is_said_where_it_is_seen(caplog):
    with caplog.at_level(logging.INFO, "throughtime"):
        tt.accelerate(nn.Linear(3, 5))
        tt.accelerate(tt.GRU(3, 5))
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, "accelerated 0 recurrent layer(s): none\nthe model has no torch.nn.RNN, GRU or LSTM"),
        (logging.INFO, "accelerated 0 recurrent layer(s): none\naccelerated before: the model itself"),
    ]


def test_what_torch_lacks_cannot_be_restored():
    model = nn.Sequential(tt.GRU(3, 5), tt.RNN(5, 5, nonlinearity="sigmoid", zoneout=0.2))
    with pytest.raises(NotImplementedError, match=r"1 has zoneout, nonlinearity='sigmoid', which torch.nn lacks"):
        tt.restore(model)
    assert type(model[0]) is tt.GRU


@pytest.mark.parametrize(("theirs", "ours"), KINDS)
def test_an_accelerated_layer_is_copied_as_ours_and_saved_as_torchs(theirs, ours):
    layer, xs = tt.accelerate(theirs(3, 5)), torch.randn(6, 4, 3)
    for other in (copy.deepcopy(layer), copy.copy(layer)):
        assert type(other) is type(layer)
        assert torch.equal(other(xs)[0], layer(xs)[0])
    assert type(pickle.loads(pickle.dumps(layer))) is theirs
    assert_close([pickle.loads(pickle.dumps(layer))(xs)[0]], [layer(xs)[0]])


@pytest.mark.slow
def test_distributed_over_gloo_is_one_process_on_both_halves(tmp_path):
    script = Path(__file__).with_name("distributed.py")
    subprocess.run([sys.executable, script, str(tmp_path / "meet")], check=True, timeout=120)


class Steps(torch.utils.data.Dataset):
    """A data set that runs a layer in its workers."""

    layer = tt.LSTM(3, 5)

    def __len__(self):
        return 8

    def __getitem__(self, k):
        with torch.no_grad():
            return self.layer(torch.full((6, 4, 3), float(k), dtype=torch.float32))[0]


def test_workers_of_a_loader():
    data = Steps()
    data.layer.float()
    data.layer(torch.randn(50, 8, 3, dtype=torch.float32))
    loaded = list(torch.utils.data.DataLoader(data, batch_size=2, num_workers=2, multiprocessing_context="fork"))
    assert_close([torch.cat(loaded)], [torch.stack([data[k] for k in range(8)])], 1e-6)


# Subclasses with a forward of their own.


class Scaled(nn.GRU):
    """A forward that calls torch's, with another result."""

    def forward(self, input, hx=None, scale=2.0):
        output, h = super().forward(input, hx)
        return scale * output, h


class Handler(abc.ABC, nn.RNNBase):
    """As in pytorch-forecasting: an abstract base between a class and torch's, with a forward for all cells."""

    @abc.abstractmethod
    def first(self): ...

    def forward(self, input, hx=None, lengths=None):
        return super().forward(input, hx=hx)


class Handled(Handler, nn.LSTM):
    def first(self):
        return None


@pytest.mark.parametrize("kind", [Scaled, Handled])
def test_a_forward_that_calls_torchs_runs_on_ours(kind, monkeypatch):
    layer, xs = kind(3, 5), torch.randn(6, 4, 3)
    wanted, done = layer(xs)[0], []
    tt.accelerate(layer, report=done.append)
    assert done[0].replaced == ("the model itself",)
    assert isinstance(layer, (kind, tt.nn.Layers))
    monkeypatch.setattr(nn.LSTM, "forward", None)
    monkeypatch.setattr(nn.GRU, "forward", None)
    assert_close([layer(xs)[0]], [wanted])


def test_a_class_that_goes_with_no_other_is_left():
    class Meta(type):
        """Not a subclass of ABCMeta, which ours has."""

    class Odd(nn.GRU, metaclass=Meta):
        pass

    done = []
    tt.accelerate(Odd(3, 5), report=done.append)
    assert "Python makes no class of" in done[0].left[0][1]


def test_one_class_for_all_layers_of_a_class():
    one, other = tt.accelerate(nn.GRU(3, 5)), tt.accelerate(nn.GRU(2, 4))
    assert type(one) is type(other)


# as_torch.


def test_as_torch_within_as_torch_after_an_exception_and_for_shared_layers():
    shared = nn.LSTM(5, 5)
    model = tt.accelerate(nn.ModuleDict({"a": nn.GRU(3, 5), "b": shared, "again": shared, "made": tt.RNN(3, 5, memory="lean")}))
    before = [type(module) for module in model.values()]

    def failing():
        with tt.as_torch(model) as inside:
            assert inside is model
            with tt.as_torch(model):
                assert [type(module) for module in model.values()] == [nn.GRU, nn.LSTM, nn.LSTM, nn.RNN]
            assert type(model["a"]) is nn.GRU
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert [type(module) for module in model.values()] == before
    assert model["made"].memory == "lean"


def test_what_the_block_does_to_a_layer_stays():
    model, xs = tt.accelerate(nn.ModuleDict({"a": nn.GRU(3, 5), "b": nn.GRU(3, 5), "c": nn.GRU(3, 5)})), torch.randn(6, 4, 3)
    with tt.as_torch(model):
        parametrizations.weight_norm(model["a"], "weight_hh_l0")
        model["b"] = nn.Identity()
        model["c"].__class__ = Scaled
    assert isinstance(model["a"], tt.GRU)
    assert parametrize.is_parametrized(model["a"], "weight_hh_l0")
    assert type(model["c"]) is Scaled
    ours = model["a"](xs)[0]
    with tt.as_torch(model):
        assert not isinstance(model["a"], tt.GRU)
        assert_close([model["a"](xs)[0]], [ours])


def test_as_torch_refuses_what_torch_lacks_and_changes_nothing():
    model = nn.ModuleDict({"a": tt.accelerate(nn.GRU(3, 5)), "b": tt.GRU(3, 5, zoneout=0.1)})
    with pytest.raises(NotImplementedError, match=r"b has zoneout, which torch\.nn lacks"), tt.as_torch(model):
        pass
    assert isinstance(model["a"], tt.GRU)


# What is saved.


@pytest.mark.filterwarnings("ignore:The tensor attributes self.0._flat_weights")  # torch's, of its own layer
@pytest.mark.slow
def test_a_saved_model_loads_where_this_package_is_not(tmp_path):
    model, xs = tt.accelerate(nn.Sequential(nn.LSTM(3, 5))), torch.randn(6, 4, 3)
    torch.save(model, tmp_path / "model.pt")
    torch.save((xs, model(xs)[0].detach()), tmp_path / "wanted.pt")
    exported = torch.export.export(model.eval(), (xs,))
    torch.export.save(exported, tmp_path / "model.pt2")
    code = (
        "import sys, torch; sys.modules['throughtime'] = None\n"  # an import of it fails
        f"xs, wanted = torch.load({str(tmp_path / 'wanted.pt')!r})\n"
        f"model = torch.load({str(tmp_path / 'model.pt')!r}, weights_only=False)\n"
        "assert type(model[0]) is torch.nn.LSTM\n"
        f"for run in (model, torch.export.load({str(tmp_path / 'model.pt2')!r}).module()):\n"
        "    torch.testing.assert_close(run(xs)[0], wanted, rtol=1e-12, atol=1e-12)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("ours", [tt.RNN, tt.GRU, tt.LSTM])
def test_a_layer_that_was_constructed_loads_with_weights_only(ours, tmp_path):
    layer = ours(3, 5, learn_h0=True)
    torch.save(layer, tmp_path / "layer.pt")
    loaded, xs = torch.load(tmp_path / "layer.pt", weights_only=True), torch.randn(6, 4, 3)
    assert type(loaded) is ours
    assert torch.equal(loaded(xs)[0], layer(xs)[0])


# Layers that are better left.


def test_layers_that_torch_runs_faster_are_left():
    half = {"dtype": torch.bfloat16}
    layers = {"p": nn.LSTM(3, 5, proj_size=2), "l": nn.LSTM(3, 5, **half), "w": nn.GRU(3, 512, **half), "n": nn.GRU(3, 5, **half)}
    done = []
    tt.accelerate(nn.ModuleDict(layers), report=done.append)
    assert done[0].replaced == ("n",)
    assert dict(done[0].left) == {
        "p": "it has a projection, for which there is no packed kernel: torch's own is faster",
        "l": "it is in bfloat16, which the packed kernels compute in float32: torch's own is faster at this size",
        "w": "it is in bfloat16, which the packed kernels compute in float32: torch's own is faster at this size",
    }


class Forked(nn.Module):
    """Two layers, one that the example does not reach, and what a run could change."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(3), nn.Dropout(0.5)
        self.a, self.b, self.idle = nn.GRU(3, 5), nn.LSTM(5, 5, proj_size=2), nn.RNN(3, 5)

    def forward(self, xs, factor=1):
        return self.b(self.drop(self.a(factor * self.norm(xs.flatten(0, 1)).view_as(xs))[0]))[0]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("faster", ["ours", "torch's"])
def test_an_example_decides(training, faster, monkeypatch):
    """The clock is replaced: each call takes as long as its layer's class is said to take."""
    runs = []

    def seconds(call):
        call.run()
        ours = isinstance(call.layer, tt.nn.Layers)
        runs.append(ours)
        return 1e-3 if ours == (faster == "ours") else 2e-3

    monkeypatch.setattr("throughtime.nn._timing._seconds", seconds)
    monkeypatch.setattr("throughtime.nn._timing.SECONDS", math.inf)  # every round is run, however slow the machine is
    model, xs, done = Forked().train(training), torch.randn(6, 4, 3), []
    state, chance = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    tt.accelerate(model, example=(xs, 2), report=done.append)
    assert all(torch.equal(now, state[name]) for name, now in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), chance)
    assert model.training is model.a.training is training
    assert all(p.grad is None for p in model.parameters())
    assert not model.a._forward_pre_hooks
    assert runs.count(True) == runs.count(False) == 2 * 16  # two layers that were reached, a round to warm up and fifteen
    how = "forward and backward" if training else "forward"
    if faster == "ours":
        assert done[0].replaced == ("a", "b", "idle")
        assert f"a: 2.00 times as fast on the example, {how}: 2.000 ms became 1.000 ms" in str(done[0]).splitlines()
        assert [name for name, _ in done[0].gains] == ["a", "b"]
    else:
        assert done[0].replaced == ("idle",)
        text = f"left a: torch's own is faster on the example: 0.50 times as fast on the example, {how}: 1.000 ms became 2.000 ms"
        assert text in str(done[0]).splitlines()


def test_an_example_of_one_tensor_and_a_clock():
    done, model = [], nn.Sequential(nn.GRU(3, 32))
    tt.accelerate(model, example=torch.randn(50, 4, 3), report=done.append)
    ((name, gain),) = done[0].gains
    assert name == "0"
    assert gain.torchs > 0 < gain.ours
    assert bool(done[0].replaced) is (gain.times > 1)
