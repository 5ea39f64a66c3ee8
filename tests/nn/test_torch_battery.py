"""PyTorch's own battery, ours beside theirs: the sample and error inputs that ``torch.testing`` ships for recurrent modules.

Each check runs over every sample in both modes, with the same weights in both modules; nothing is skipped. ``make test`` runs a part of
them, chosen so that each check sees every module and each sample is seen by some check; ``make test-all`` runs the whole.
``tests/conftest.py`` prints how many ran and passed. The last test is the grid of torch's ``_test_RNN_cpu_vs_cudnn``.
"""

import copy
import io
import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import product

import pytest
import torch
from _rounding import path
from _truth import assert_close, gradients, rounding
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.testing._internal.common_modules import ErrorModuleInput, ModuleErrorEnum, ModuleInput, module_db
from torch.testing._internal.common_utils import noncontiguous_like

import throughtime as tt

# Importing torch's tests forbids every later test to set a backend's flags; this takes that back.
setattr(torch.backends, "__allow_nonbracketed_mutation_flag", True)  # private

OURS = {nn.RNN: tt.RNN, nn.GRU: tt.GRU, nn.LSTM: tt.LSTM, nn.RNNCell: tt.RNNCell, nn.GRUCell: tt.GRUCell, nn.LSTMCell: tt.LSTMCell}
SHIPPED = {info.module_cls: info for info in module_db if info.module_cls in OURS}
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")  # torch's module says so of itself
Nested = Tensor | PackedSequence | tuple | None

# make test runs every so manyth case of a check. Each check begins at a part of its own, so that each sample meets some of them; an odd
# number, so that both modes and both types are met.
EVERY = 9

TOLERANCE = {dtype: rounding(path(5, 17, 2), dtype=dtype) for dtype in (torch.float64, torch.float32)}


def how_many(theirs: type[nn.Module], kind: str) -> int:
    return len(shipped(theirs, kind, torch.float64, True))


@cache
def shipped(theirs: type[nn.Module], kind: str, dtype: torch.dtype, training: bool) -> Sequence[ModuleInput | ErrorModuleInput]:
    """torch's list; packed sequences with it where torch has them."""
    torch.manual_seed(0)
    info = SHIPPED[theirs]
    make = info.module_inputs_func if kind == "samples" else info.module_error_inputs_func
    return make(info, dtype=dtype, training=training, device="cpu", requires_grad=True, with_packed_sequence=True)


def over(kind: str, part: int = 0, dtypes: Sequence[torch.dtype] = ()) -> Callable:
    """Parametrize a test by every module, shipped sample, mode and type, of which a part is quick."""
    samples = [(theirs, i) for theirs in SHIPPED for i in range(how_many(theirs, kind))]
    cases = [(theirs, i, *rest) for (theirs, i), *rest in product(samples, [True, False], *([dtypes] if dtypes else []))]
    names = ["theirs", "index", "training", *(["dtype"] if dtypes else [])]
    return pytest.mark.parametrize(names, [_case(case, (n + part) % EVERY != 0) for n, case in enumerate(cases)])


def _case(case: tuple, slow: bool):
    theirs, index, training, *dtype = case
    name = "-".join((theirs.__name__, str(index), "train" if training else "eval", *map(str, dtype)))
    return pytest.param(*case, id=name, marks=pytest.mark.slow if slow else ())


class Pair:
    """Our module and torch's with the same weights, and one sample's arguments."""

    def __init__(self, theirs: type[nn.Module], index: int, training: bool, dtype: torch.dtype = torch.float64) -> None:
        self.sample = shipped(theirs, "samples", dtype, training)[index]
        given = self.sample.constructor_input
        self.make_ours = lambda **more: OURS[theirs](*given.args, **given.kwargs, **more)
        self.make_theirs = lambda **more: theirs(*given.args, **given.kwargs, **more)
        self.theirs = self.make_theirs(dtype=dtype).train(training)
        self.ours = self.make_ours(dtype=dtype).train(training)
        self.ours.load_state_dict(self.theirs.state_dict())
        self.arguments = self.sample.forward_input.args
        assert not self.sample.forward_input.kwargs


def leaves(value: Nested) -> list[Tensor]:
    """The real tensors in it."""
    if isinstance(value, PackedSequence):
        return [value.data]
    if isinstance(value, tuple):
        return [leaf for part in value for leaf in leaves(part)]
    return [] if value is None else [value]


def rebuilt(value: Nested, parts: Iterator[Tensor]) -> Nested:
    """The same nest of other tensors."""
    if isinstance(value, PackedSequence):
        return value._replace(data=next(parts))
    if isinstance(value, tuple):
        return tuple(rebuilt(part, parts) for part in value)
    return None if value is None else next(parts)


def skeleton(value: Nested) -> object:
    """All of it but the numbers."""
    if isinstance(value, PackedSequence):
        return ("packed", value.data.shape, value.batch_sizes.tolist(), *(None if i is None else i.tolist() for i in value[2:]))
    if isinstance(value, tuple):
        return tuple(map(skeleton, value))
    return None if value is None else (value.shape, value.dtype, value.device)


def run(module: nn.Module, arguments: tuple) -> list[Tensor]:
    return leaves(module(*arguments))


def pulled(module: nn.Module, arguments: tuple, cotangents: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of arguments and weights."""
    return gradients(run(module, arguments), cotangents, [*leaves(arguments), *module.parameters()])


def cotangents_of(module: nn.Module, arguments: tuple) -> list[Tensor]:
    return [torch.randn_like(y) for y in run(module, arguments)]


@over("samples", 0, [torch.float64, torch.float32])
def test_forward(theirs, index, training, dtype):
    """The same nest of the same shapes and numbers; and what torch's reference says a sample without a batch should give."""
    pair = Pair(theirs, index, training, dtype)
    got, wanted = pair.ours(*pair.arguments), pair.theirs(*pair.arguments)
    assert skeleton(got) == skeleton(wanted)
    assert_close(leaves(got), leaves(wanted), TOLERANCE[dtype])
    if not isinstance(pair.arguments[0], PackedSequence):
        assert_close(leaves(got), leaves(pair.sample.reference_fn(pair.ours, *pair.arguments)), TOLERANCE[dtype])


@over("samples", 1, [torch.float64, torch.float32])
def test_grad(theirs, index, training, dtype):
    pair = Pair(theirs, index, training, dtype)
    cotangents = cotangents_of(pair.theirs, pair.arguments)
    got, wanted = (pulled(module, pair.arguments, cotangents) for module in (pair.ours, pair.theirs))
    assert_close(got, wanted, TOLERANCE[dtype])


@over("samples", 2)
def test_gradgrad(theirs, index, training):
    """The gradient of the gradient: torch's numbers, and finite differences of our own gradient."""
    pair = Pair(theirs, index, training)
    cotangents = [v.requires_grad_() for v in cotangents_of(pair.theirs, pair.arguments)]
    inputs = leaves(pair.arguments)

    def twice(module: nn.Module) -> list[Tensor]:
        total = sum((y * v).sum() for y, v in zip(run(module, pair.arguments), cotangents, strict=True))
        sources = [*inputs, *module.parameters()]
        once = torch.autograd.grad(total, sources, create_graph=True)
        again = [torch.sin(torch.arange(1.0, g.numel() + 1)).view(g.shape) for g in once]
        return gradients(once, again, [*sources, *cotangents])

    assert_close(twice(pair.ours), twice(pair.theirs))
    if training:  # the dearest check, and blind to the mode, which the one above sees
        function, at = _as_function(pair)
        assert torch.autograd.gradgradcheck(function, at, fast_mode=True)


def _as_function(pair: Pair) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Our module as a function from one vector to one vector: finite differences in a random direction of all inputs and weights."""
    names = [name for name, _ in pair.ours.named_parameters()]
    inputs = leaves(pair.arguments)
    sources = [*inputs, *pair.ours.parameters()]

    def function(flat: Tensor) -> Tensor:
        parts = [part.view(x.shape) for part, x in zip(flat.split([x.numel() for x in sources]), sources, strict=True)]
        weights = dict(zip(names, parts[len(inputs) :], strict=True))
        outputs = leaves(torch.func.functional_call(pair.ours, weights, rebuilt(pair.arguments, iter(parts))))
        return torch.cat([y.flatten() for y in outputs])

    return function, torch.cat([x.detach().flatten() for x in sources]).requires_grad_()


@over("samples", 3)
def test_non_contiguous_tensors(theirs, index, training):
    """Inputs and cotangents with NaN between their numbers."""
    pair = Pair(theirs, index, training)
    cotangents = cotangents_of(pair.theirs, pair.arguments)
    apart = rebuilt(pair.arguments, iter([noncontiguous_like(x) for x in leaves(pair.arguments)]))
    assert_close(run(pair.ours, apart), run(pair.theirs, pair.arguments))
    got = pulled(pair.ours, apart, [noncontiguous_like(v) for v in cotangents])
    assert_close(got, pulled(pair.theirs, pair.arguments, cotangents))


@over("samples", 4)
def test_pickling(theirs, index, training):
    """pickle, and torch.save: the same class, mode and bits."""
    pair = Pair(theirs, index, training)
    file = io.BytesIO()
    torch.save(pair.ours, file)
    file.seek(0)
    for again in (pickle.loads(pickle.dumps(pair.ours)), torch.load(file, weights_only=False)):
        assert type(again) is OURS[theirs]
        assert again.training is training
        assert all(map(torch.equal, run(again, pair.arguments), run(pair.ours, pair.arguments)))


@over("samples", 5)
def test_deepcopy(theirs, index, training):
    """The same bits, from weights of its own."""
    pair = Pair(theirs, index, training)
    before, again = [y.detach() for y in run(pair.ours, pair.arguments)], copy.deepcopy(pair.ours)
    assert type(again) is OURS[theirs]
    assert all(map(torch.equal, run(again, pair.arguments), before))
    with torch.no_grad():
        for p in pair.ours.parameters():
            p.add_(1.0)
    assert all(map(torch.equal, run(again, pair.arguments), before))
    assert_close(pulled(again, pair.arguments, before), pulled(pair.theirs, pair.arguments, before))


@over("samples", 6)
def test_to(theirs, index, training):
    """Types there and back; a device that holds no numbers; and room made on a device."""
    pair = Pair(theirs, index, training)
    narrow = rebuilt(pair.arguments, iter([x.detach().float() for x in leaves(pair.arguments)]))
    assert pair.ours.to(torch.float32) is pair.ours
    assert {p.dtype for p in pair.ours.parameters()} == {torch.float32}
    assert_close(run(pair.ours, narrow), run(pair.theirs.float(), narrow), TOLERANCE[torch.float32])
    assert_close(run(pair.ours.to("cpu", torch.float64), pair.arguments), run(pair.theirs.double(), pair.arguments))
    weights = copy.deepcopy(pair.ours.state_dict())
    assert {p.device.type for p in pair.ours.to("meta").parameters()} == {"meta"}
    pair.ours.to_empty(device="cpu").load_state_dict(weights)
    assert_close(run(pair.ours, pair.arguments), run(pair.theirs, pair.arguments))


@over("samples", 7)
def test_state_dict(theirs, index, training):
    """The same keys in the same order, loaded strictly either way."""
    pair = Pair(theirs, index, training)
    shapes = lambda module: [(name, p.shape, p.dtype) for name, p in module.state_dict().items()]
    assert shapes(pair.ours) == shapes(pair.theirs)
    for make, source in ((pair.make_theirs, pair.ours), (pair.make_ours, pair.theirs)):
        target = make().train(training)
        target.load_state_dict(source.state_dict(), strict=True)
        assert_close(run(target, pair.arguments), run(pair.theirs, pair.arguments))


@over("samples", 8)
def test_train_and_eval(theirs, index, training):
    """The mode is kept, and changes nothing where there is no dropout."""
    pair = Pair(theirs, index, training)
    before = run(pair.ours, pair.arguments)
    assert pair.ours.training is training
    assert pair.ours.train(not training).training is not training
    assert all(map(torch.equal, run(pair.ours, pair.arguments), before))


@over("samples", 9)
def test_construction(theirs, index, training):
    """A subclass with torch's face: repr, weights under a seed, types and devices asked for."""
    pair = Pair(theirs, index, training)
    assert isinstance(pair.ours, theirs)
    assert repr(pair.ours) == repr(pair.theirs)
    torch.manual_seed(index)
    ours = pair.make_ours()
    torch.manual_seed(index)
    assert all(map(torch.equal, ours.parameters(), pair.make_theirs().parameters()))
    assert {p.dtype for p in pair.make_ours(dtype=torch.float32).parameters()} == {torch.float32}
    assert {p.device.type for p in pair.make_ours(device="meta").parameters()} == {"meta"}
    with torch.device("meta"):
        assert {p.device.type for p in pair.make_ours().parameters()} == {"meta"}
    if isinstance(pair.ours, nn.RNNBase):
        assert pair.ours.flatten_parameters() is None
        assert all(map(torch.equal, *(leaves(tuple(map(tuple, m.all_weights))) for m in (pair.ours, pair.theirs))))


@over("errors")
@pytest.mark.usefixtures("shapes_unchecked")
def test_errors(theirs, index, training):
    """torch's own list of what must be refused, with the type and the text that torch looks for; torch's module first."""
    case = shipped(theirs, "errors", torch.float64, training)[index]
    made, given = case.module_error_input.constructor_input, case.module_error_input.forward_input
    for cls in (theirs, OURS[theirs]):
        if case.error_on is ModuleErrorEnum.CONSTRUCTION_ERROR:
            with pytest.raises(case.error_type, match=case.error_regex):
                cls(*made.args, **made.kwargs)
        else:
            module = cls(*made.args, **made.kwargs)
            with pytest.raises(case.error_type, match=case.error_regex):
                module(*given.args, **given.kwargs)


def test_the_battery_is_as_long_as_it_was():
    """torch 2.13 ships so many; fewer would be a battery that went flat unseen."""
    least = {nn.RNN: (64, 14), nn.GRU: (32, 14), nn.LSTM: (32, 14), nn.RNNCell: (3, 6), nn.GRUCell: (2, 6), nn.LSTMCell: (2, 4)}
    for theirs, (samples, errors) in least.items():
        assert how_many(theirs, "samples") >= samples
        assert how_many(theirs, "errors") >= errors


# The grid of torch's _test_RNN_cpu_vs_cudnn.
I, H, L, T, B = 10, 6, 2, 7, 6
LENGTHS = [7, 5, 5, 2, 1, 1]
KINDS = {
    "RNN-tanh": (nn.RNN, {}),
    "RNN-relu": (nn.RNN, {"nonlinearity": "relu"}),
    "GRU": (nn.GRU, {}),
    "LSTM": (nn.LSTM, {}),
    "LSTM-proj": (nn.LSTM, {"proj_size": 3}),
}


def switched() -> list:
    """All 64 ways to set six switches; quick are the 8 in which every pair of switches is set in all four ways (three free, three sums)."""
    ways = list(product([True, False], repeat=6))
    quick = [way for way in ways if way[3:] == (way[0] ^ way[1], way[0] ^ way[2], way[1] ^ way[2])]
    return [pytest.param(*way, id="".join("yn"[not on] for on in way), marks=() if way in quick else pytest.mark.slow) for way in ways]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("bias", "bidirectional", "batch_first", "contiguous", "variable_length", "lengths_as_tensor"), switched())
def test_grid(kind, bias, bidirectional, batch_first, contiguous, variable_length, lengths_as_tensor):
    """Values and gradients of the output and the last states, from states that are given and from none."""
    cls, options = KINDS[kind]
    options = {**options, "bias": bias, "bidirectional": bidirectional, "batch_first": batch_first}
    theirs, ours = cls(I, H, L, **options), OURS[cls](I, H, L, **options)
    ours.load_state_dict(theirs.state_dict())
    xs, states = torch.randn(*((B, T) if batch_first else (T, B)), I), _states(theirs)
    if variable_length:
        lengths = torch.tensor(LENGTHS) if lengths_as_tensor else LENGTHS
        xs = pack_padded_sequence(xs, lengths, batch_first=batch_first)
    apart = (lambda x: x) if contiguous else _apart
    for arguments in ((xs, states), (xs,)):
        arguments = rebuilt(arguments, iter([x.requires_grad_() for x in leaves(arguments)]))
        outputs = theirs(*arguments)
        cotangents = [apart(torch.randn_like(y)) for y in leaves(outputs)]
        strided = rebuilt(arguments, iter([apart(x.detach()).requires_grad_() for x in leaves(arguments)]))
        assert skeleton(ours(*strided)) == skeleton(outputs)
        assert_close(run(ours, strided), leaves(outputs))
        assert_close(pulled(ours, strided, cotangents), pulled(theirs, arguments, cotangents))


def _states(module: nn.RNNBase) -> Tensor | tuple[Tensor, Tensor]:
    rows = module.num_layers * (2 if module.bidirectional else 1)
    h = torch.randn(rows, B, module.proj_size or H)
    return (h, torch.randn(rows, B, H)) if isinstance(module, nn.LSTM) else h


def _apart(x: Tensor) -> Tensor:
    """As torch's grid does it: every other number of a tensor twice as long."""
    return torch.stack((torch.zeros_like(x), x), -1).select(-1, 1)
