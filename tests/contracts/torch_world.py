"""What torch's world does to a layer, tried on torch's own and on an accelerated model: the rows of ``test_torch_world.py``.

Each function of ``SAME`` does one thing to a small network and gives what came out. It must be the same for both. Each of ``BETTER`` is
refused by torch itself. Each of ``REFUSED`` is refused for an accelerated layer with the text given, and is the same within ``as_torch``.

    python tests/contracts/torch_world.py            # a line for each row and cell, with the version of torch; for make torch-versions
"""

import copy
import io
import logging
import pickle
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence
from torch.utils._python_dispatch import TorchDispatchMode

import throughtime as tt

T, B, I, H = 5, 3, 2, 4
CELLS = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}


class Net(nn.Module):
    """A layer between two others: batch first, two layers, dropout."""

    def __init__(self, kind, **more):
        super().__init__()
        self.enter = nn.Linear(2, I)
        self.rnn = kind(I, H, 2, batch_first=True, dropout=0.3, **more)
        self.leave = nn.Linear(H, 2)

    def forward(self, xs):
        return self.leave(self.rnn(self.enter(xs))[0])


def network(kind, make) -> Net:
    """The network of ``kind`` under a seed, as ``make`` leaves it."""
    torch.manual_seed(0)
    net = Net(kind)
    make(net)
    return net


def batch(*size):
    return torch.randn(*(size or (B, T, 2)), generator=torch.Generator().manual_seed(1))


def gradients(net, output):
    return torch.autograd.grad(output.square().sum(), list(net.parameters()), allow_unused=True)


def seeded(net, *args):
    """A call whose dropout is drawn from a seed."""
    torch.manual_seed(2)
    return net(*args)


SAME: dict[str, Callable] = {}
HEAVY: set[str] = set()


def same(name, *, heavy=False):
    def row(function):
        SAME[name] = function
        HEAVY.update([name] if heavy else [])
        return function

    return row


# Recorders and graphs.


@same("make_fx")
def _(net):
    from torch.fx.experimental.proxy_tensor import make_fx

    return make_fx(net.eval())(batch())(2 * batch())


@same("make_fx of a gradient, real and symbolic", heavy=True)
def _(net):
    from torch.fx.experimental.proxy_tensor import make_fx

    net.eval()
    function = lambda xs: torch.autograd.grad(net(xs).square().sum(), [xs, net.rnn.weight_hh_l0])
    make = lambda mode: make_fx(function, tracing_mode=mode, _allow_non_fake_inputs=True)(batch().requires_grad_())
    return [make(mode)(3 * batch().requires_grad_()) for mode in ("real", "fake", "symbolic")]


@same("FakeTensorMode")
def _(net):
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        output = net(mode.from_tensor(batch()))
    return torch.zeros(output.shape)


@same("FlopCounterMode, forward and backward")
def _(net):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counted:
        net(batch()).sum().backward()
    return torch.tensor(counted.get_total_flops())


@same("a dispatch mode sees every operation")
def _(net):
    class Seen(TorchDispatchMode):
        names = ()

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.names = (*self.names, str(function))
            return function(*args, **(kwargs or {}))

    with Seen() as seen:
        output = net.eval()(batch())
    assert any("mm" in name or "mkldnn_rnn" in name for name in seen.names)
    return output


@same("a tensor subclass without memory of its own")
@torch.no_grad()
def _(net):
    from torch.testing._internal.two_tensor import TwoTensor

    output = net.eval()(TwoTensor(batch(), 2 * batch()))
    return [output.a, output.b] if isinstance(output, TwoTensor) else output


@same("device meta")
def _(net):
    output = net.to("meta")(batch().to("meta"))
    return torch.zeros(output.shape)


@same("aot_function", heavy=True)
def _(net):
    from functorch.compile import aot_function, nop

    weights = dict(net.eval().named_parameters())
    call = lambda weights, xs: torch.func.functional_call(net, weights, (xs,))
    output = aot_function(call, nop)(weights, batch())
    return [output, *gradients(net, output)]


@same("aot_module", heavy=True)
def _(net):
    from functorch.compile import aot_module, nop

    return aot_module(net.eval(), nop)(batch())


@same("functionalize")
def _(net):
    return torch.func.functionalize(net.eval())(batch())


@same("functionalize of a gradient")
def _(net):
    net.eval()
    return torch.func.functionalize(torch.func.grad(lambda xs: net(xs).square().sum()))(batch())


@same("jit.trace, saved, loaded, another shape")
@torch.no_grad()
def _(net):
    traced, file = torch.jit.trace(net.eval(), batch()), io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    return torch.jit.load(file)(batch(4, 7, 2))


@same("fx.symbolic_trace")
def _(net):
    traced = torch.fx.symbolic_trace(net.eval())
    assert any(node.op == "call_module" and node.target == "rnn" for node in traced.graph.nodes)
    return traced(batch(4, 7, 2))


# Gradients in bulk.


@same("is_grads_batched")
def _(net):
    xs = batch().requires_grad_()
    output = net.eval()(xs)
    return torch.autograd.grad(
        output, [xs, net.rnn.weight_hh_l1], torch.stack([torch.ones_like(output), output.detach()]), is_grads_batched=True
    )


@same("functional.jacobian and hessian, vectorized")
def _(net):
    net.eval()
    jacobian = torch.autograd.functional.jacobian(net, batch(1, 3, 2), vectorize=True)
    return [jacobian, torch.autograd.functional.hessian(lambda xs: net(xs).square().sum(), batch(1, 2, 2), vectorize=True)]


# Files.


@same("torch.save, loaded as torch's")
def _(net):
    file = io.BytesIO()
    torch.save(net.eval(), file)
    assert b"throughtime" not in file.getvalue()
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert type(loaded.rnn) in CELLS.values()
    return loaded(batch())


@same("torch.load(weights_only=True)")
def _(net):
    file, layer = io.BytesIO(), net.rnn.eval()
    torch.save(layer, file)
    file.seek(0)
    with torch.serialization.safe_globals([*CELLS.values(), getattr]):
        return torch.load(file, weights_only=True)(batch())


@same("pickle")
def _(net):
    return [pickle.loads(pickle.dumps(net.eval(), protocol))(batch()) for protocol in (2, 3, 4, 5)]


@same("torch.export, saved and loaded")
def _(net):
    exported, file = torch.export.export(net.eval(), (batch(),)), io.BytesIO()
    torch.export.save(exported, file)
    assert not [node for node in exported.graph.nodes if "throughtime" in str(node.target)]
    file.seek(0)
    return torch.export.load(file).module()(2 * batch())


@same("torch.export with any B", heavy=True)
def _(net):
    exported = torch.export.export(net.eval(), (batch(),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    assert not [node for node in exported.graph.nodes if "throughtime" in str(node.target)]
    return exported.module()(batch(7, T, 2))


@same("torch.export, strict", heavy=True)
def _(net):
    torch._dynamo.reset()
    return torch.export.export(net.eval(), (batch(),), strict=True).module()(2 * batch())


def run_onnx(path, xs):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: xs.numpy()})[0])


@same("torch.onnx.export by TorchScript, any T and B", heavy=True)
def _(net):
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "net.onnx")
        axes = {"xs": {0: "B", 1: "T"}}
        torch.onnx.export(net.eval(), (batch(),), path, dynamo=False, input_names=["xs"], dynamic_axes=axes)
        return run_onnx(path, batch(4, 7, 2))


@same("torch.onnx.export by dynamo, any B", heavy=True)
def _(net):
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "net.onnx")
        shapes = ({0: torch.export.Dim.DYNAMIC},)
        torch.onnx.export(net.eval(), (batch(),), path, dynamo=True, dynamic_shapes=shapes, verbose=False)
        return run_onnx(path, batch(4, T, 2))


# Types.


def autocast(weights, dtype):
    def row(net):
        layer, xs = net.rnn.to(weights).eval(), batch().to(weights)
        with torch.autocast("cpu", dtype):
            output, state = layer(xs)
        assert all(s.dtype == output.dtype for s in (state if isinstance(state, tuple) else (state,)))
        return torch.tensor(output.dtype.itemsize), output.double() if weights == torch.float64 else torch.zeros(output.shape)

    return row


for weights in (torch.float64, torch.float32, torch.bfloat16):
    SAME[f"autocast to bfloat16 of {weights} weights"] = autocast(weights, torch.bfloat16)


def refusal(function, *types):
    """The type of the error, as a value to compare; the text is another matter."""
    try:
        function()
    except types as error:
        return torch.tensor([ord(c) for c in type(error).__name__])
    raise AssertionError("it was not refused")


@same("a state of another dtype is refused")
def _(net):
    h = torch.zeros(2, B, H, dtype=torch.float64)
    return refusal(lambda: net.rnn(batch(), (h, h) if isinstance(net.rnn, nn.LSTM) else h), RuntimeError)


@same("an input of another dtype is refused")
def _(net):
    return refusal(lambda: net.rnn(batch().double()), ValueError)


# Changes in place.


@same("the input changed in place after the call")
def _(net):
    xs = batch() * 1
    output, _ = seeded(net.rnn, xs)
    xs.add_(1)
    return gradients(net.rnn, output)


@same("the output changed in place")
def _(net):
    output, _ = seeded(net.rnn, batch())
    if isinstance(net.rnn, nn.LSTM):  # torch refuses it at backward
        output.add_(1)
        return refusal(lambda: gradients(net.rnn, output), RuntimeError)
    return gradients(net.rnn, output.add_(1).relu_())


@same("the last state changed in place")
def _(net):
    _, state = seeded(net.rnn, batch())
    h = state[0] if isinstance(state, tuple) else state
    return gradients(net.rnn, h.add_(1))


# Random numbers.


@same("dropout between layers under a seed")
def _(net):
    return seeded(net, batch())


@same("dropout between layers of packed input under a seed")
def _(net):
    packed = pack_padded_sequence(batch(), torch.tensor([2, 5, 3]), batch_first=True, enforce_sorted=False)
    output, state = seeded(net.rnn, packed)
    return [output.data, *(state if isinstance(state, tuple) else (state,)), torch.rand(3)]


@same("dropout of packed input in both directions under a seed")
def _(net):
    torch.manual_seed(0)
    layer = type(net.rnn)(I, H, 3, dropout=0.5, bidirectional=True) if type(net.rnn) in CELLS.values() else None
    layer = layer or tt.accelerate(next(k for k in CELLS.values() if isinstance(net.rnn, k))(I, H, 3, dropout=0.5, bidirectional=True))
    return seeded(layer, pack_sequence([batch(n, I) for n in (4, 4, 1)]))[0].data


# Packed input: of two steps, of many, of many alike, each out of order.


def packs():
    return [pack_sequence([batch(n, I) for n in lengths], enforce_sorted=False) for lengths in ((1, 2, 2), (3, 30, 9), (9, 9, 9))]


def over_packs(net, call):
    """What ``call`` makes of each packed input, given as its data and a function of these: output, last state, in evaluation."""
    net.eval()
    return [call(pack.data, lambda data, rest=pack[1:]: flat_call(net.rnn, PackedSequence(data, *rest))) for pack in packs()]


def flat_call(layer, pack, state=None):
    output, last = layer(pack, state)
    return [output.data, *(last if isinstance(last, tuple) else (last,))]


@same("packed input: gradients of gradients")
def _(net):
    def twice(data, call):
        leaf = data.clone().requires_grad_()
        (d,) = torch.autograd.grad(sum(y.square().sum() for y in call(leaf)), leaf, create_graph=True)
        return [d, *gradients(net.rnn, d)]

    return over_packs(net, twice)


@same("packed input: a state given, no gradient, inference")
def _(net):
    h = torch.arange(2 * B * H).reshape(2, B, H) / 10
    state = (h, h.neg()) if isinstance(net.rnn, nn.LSTM) else h
    found = []
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with mode():
            found.append([flat_call(net.rnn.eval(), pack, state) for pack in packs()])
    return found


@same("packed input: types under autocast")
def _(net):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return over_packs(net, lambda data, call: [torch.zeros((), dtype=y.dtype) for y in call(data)])


@same("packed input: jit.trace")
def _(net):
    net.requires_grad_(False)
    return over_packs(net, lambda data, call: torch.jit.trace(lambda x: tuple(call(x)), data)(2 * data))


@same("packed input: adjoints in a batch")
def _(net):
    def batched(data, call):
        leaf = data.clone().requires_grad_()
        y = call(leaf)[0]
        return torch.autograd.grad(y, leaf, torch.stack([y.detach(), 2 * y.detach()]), is_grads_batched=True)

    return over_packs(net, batched)


@same("packed input: FlopCounterMode")
def _(net):
    from torch.utils.flop_counter import FlopCounterMode

    def total(data, call):
        with FlopCounterMode(display=False) as counter:
            call(data)
        return torch.tensor(counter.get_total_flops())

    return over_packs(net, total)


@same("packed input: functional_call, reparametrised weights")
def _(net):
    from torch.nn.utils import parametrizations

    weights = {name: 2 * p.detach() for name, p in net.rnn.named_parameters()}
    given = [torch.func.functional_call(net.rnn.eval(), weights, (pack,))[0].data for pack in packs()]
    parametrizations.weight_norm(net.rnn, "weight_hh_l0")
    return [given, over_packs(net, lambda data, call: call(data))]


# Ordinary life.


@same("training")
def _(net):
    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(3):
        optimiser.zero_grad()
        seeded(net, batch()).square().sum().backward()
        optimiser.step()
    return list(net.parameters())


@same("deepcopy, copy, state_dict")
def _(net):
    other = copy.deepcopy(net.eval())
    other.load_state_dict(copy.copy(net).state_dict())
    assert type(other.rnn) is type(net.rnn)
    assert type(copy.copy(net.rnn)) is type(net.rnn)
    return other(batch())


@same("model.apply that asks for the exact class")
def _(net):
    def init(module):
        if type(module) in (nn.RNN, nn.GRU, nn.LSTM):
            nn.init.ones_(module.weight_hh_l0)

    net.apply(init)
    return net.rnn.weight_hh_l0


@same("activation checkpointing, selective too")
def _(net):
    from functools import partial

    from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

    keep = lambda *_args, **_kwargs: CheckpointPolicy.MUST_RECOMPUTE
    chosen = partial(create_selective_checkpoint_contexts, keep)
    torch.manual_seed(2)
    outputs = [
        checkpoint(net, batch().requires_grad_(), use_reentrant=False),
        checkpoint(net, batch().requires_grad_(), use_reentrant=False, context_fn=chosen),
    ]
    return [g for output in outputs for g in gradients(net, output)]


@same("saved-tensor hooks, save_on_cpu, anomaly mode")
def _(net):
    net.eval()
    with torch.autograd.graph.save_on_cpu(), torch.autograd.detect_anomaly(check_nan=True):
        return gradients(net, net(batch()))


@same("functional_call and swapped parameters")
def _(net):
    weights = {name: 2 * p.detach() for name, p in net.named_parameters()}
    return torch.func.functional_call(net.eval(), weights, (batch(),))


@same("prune, parametrize, weight and spectral norm")
def _(net):
    from torch.nn.utils import parametrizations, prune

    prune.l1_unstructured(net.rnn, "weight_ih_l0", 0.5)
    parametrizations.weight_norm(net.rnn, "weight_hh_l0")
    parametrizations.spectral_norm(net.rnn, "weight_hh_l1")
    return net.eval()(batch())


@same("compile", heavy=True)
def _(net):
    torch._dynamo.reset()
    return torch.compile(net.eval(), backend="aot_eager")(batch())


# What torch refuses.

BETTER: dict[str, Callable] = {}


def better(name):
    return lambda function: BETTER.setdefault(name, function)


@better("torch.export with any T, loaded where throughtime is imported")
def _(net):
    exported, file = torch.export.export(net.eval(), (batch(),), dynamic_shapes=({1: torch.export.Dim.DYNAMIC},)), io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    return torch.export.load(file).module()(batch(B, 8, 2)), net(batch(B, 8, 2))


@better("vmap over inputs")
def _(net):
    xs = torch.stack([batch(), 2 * batch()])
    return torch.func.vmap(net.eval())(xs), torch.stack([net(x) for x in xs])


@better("vmap, grad and forward mode over packed input")
def _(net):
    net.eval()
    pairs = [transformed(pack.data, lambda data, rest=pack[1:]: net.rnn(PackedSequence(data, *rest))[0].data) for pack in packs()]
    return zip(*pairs, strict=True)


def transformed(data, call):
    """What torch.func's transforms make of a call, and what they should: two calls, autograd's gradient, the derivative along it."""
    leaf = data.clone().requires_grad_()
    (d,) = torch.autograd.grad(call(leaf).square().sum(), leaf)
    along = torch.func.jvp(lambda x: call(x).square().sum(), (data,), (d,))[1]
    got = torch.func.vmap(call)(torch.stack([data, 2 * data])), torch.func.grad(lambda x: call(x).square().sum())(data), along
    return got, (torch.stack([call(data), call(2 * data)]), d, d.square().sum())


# What an accelerated layer refuses, and what as_torch makes of it.

REFUSED: dict[str, tuple[str, Callable]] = {}


def refused(name, text):
    return lambda function: REFUSED.setdefault(name, (text, function))


@refused("jit.script", r"torch.jit.script compiles the source of torch's own layers.* with throughtime.as_torch\(model\)")
def _(net):
    return torch.jit.script(net.eval())(batch())


@refused("quantize_dynamic", r"torch's quantisation passes over .* with throughtime.as_torch\(model\)")
def _(net):
    return torch.ao.quantization.quantize_dynamic(net.eval(), {nn.LSTM, nn.GRU, nn.Linear})(batch())


def is_refused(row, net) -> bool:
    """Whether a row raises, whatever it raises."""
    try:
        row(net)
    except Exception:
        return True
    return False


def leaves(found):
    """The tensors of a nest, each with its type."""
    if isinstance(found, torch.Tensor):
        return [found.detach()]
    return [] if found is None else [leaf for one in found for leaf in leaves(one)]


def distance(got, wanted) -> float:
    """The largest difference, relative to the largest number; infinite where shapes or types differ."""
    pairs = list(zip(leaves(got), leaves(wanted), strict=True))
    if not pairs or any(a.shape != b.shape or a.dtype != b.dtype for a, b in pairs):
        return float("inf")
    return max(
        (float((a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=1e-3)) for a, b in pairs if a.numel()), default=0.0
    )


def accelerated(net):
    tt.accelerate(net, report=lambda done: None)


def try_row(name: str, kind: type[nn.Module]) -> float:
    """How far an accelerated network is from torch's own in a row of ``SAME``."""
    wanted = SAME[name](network(kind, lambda net: None))
    return distance(SAME[name](network(kind, accelerated)), wanted)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    worst = 0
    print(f"torch {torch.__version__}")
    for row in [name for name in SAME if all(word in name for word in sys.argv[1:])]:
        for cell, kind in CELLS.items():
            try:
                found = try_row(row, kind)
                good, text = found < 1e-4, f"{found:.1e}"
            except Exception as error:
                good, text = False, f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
            worst += not good
            print(f"{'ok ' if good else 'BAD'} {cell:4} {row}: {text}", flush=True)
    sys.exit(worst > 0)
