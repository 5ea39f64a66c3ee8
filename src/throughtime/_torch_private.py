"""Every use of torch's private interfaces, each with the reason and with what happens if torch changes it. No other file uses any.

``tests/test_torch_private.py`` has a test for each, which fails with the name of what has changed.
"""

import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

_functorch = getattr(torch._C, "_are_functorch_transforms_active", None)
_dispatch_modes = getattr(torch._C, "_len_torch_dispatch_stack", None)
_transforms = getattr(torch._C, "_functorch", None)
_BUILDER = "torch._dynamo.variables.builder"


def functorch_is_active() -> bool:
    """Whether a transform of ``torch.func`` is active. Such a transform needs an operator instead of a node of autograd.

    torch has no public function for this. If torch's private one disappears, the answer is always True: an operator is also correct
    without a transform, only slower.
    """
    return True if _functorch is None else _functorch()


def dispatch_mode_is_active() -> bool:
    """Whether a mode such as ``FakeTensorMode`` or ``make_fx`` intercepts torch's operations.

    torch has no public function for this. If torch's private one disappears, the answer is always True: the ordinary way through a
    layer is also correct without a mode, only slower.
    """
    return True if _dispatch_modes is None else _dispatch_modes() > 0


def functionalize_is_active() -> bool:
    """Whether ``torch.func.functionalize`` is active. It has no rule for a node of autograd, and torch has no public function for this.

    If torch's private one disappears, the answer is always False, and torch itself refuses the node.
    """
    if not functorch_is_active():
        return False
    stack, kinds = getattr(_transforms, "get_interpreter_stack", lambda: None)() or (), getattr(_transforms, "TransformType", None)
    return kinds is not None and any(one.key() == kinds.Functionalize for one in stack)


def is_batched(t: Tensor | None) -> bool:
    """Whether ``t`` stands for many tensors: inside vmap, or an adjoint under ``is_grads_batched``. No kernel can read it.

    torch has no public function for this. If torch's private ones disappear, the answer is always False, and the kernels refuse it.
    """
    if t is None:
        return False
    asked = [getattr(_transforms, name, None) for name in ("is_batchedtensor", "is_legacy_batchedtensor")]
    return any(ask is not None and ask(t) for ask in asked)


def is_fake(t: Tensor) -> bool:
    """Whether ``t`` is a ``FakeTensor``, which an operator accepts. If torch's class moves, the answer is always False: the operations
    that follow one by one accept it too."""
    kind = getattr(sys.modules.get("torch._subclasses.fake_tensor"), "FakeTensor", None)
    return kind is not None and isinstance(t, kind)


def own_parameters(module: nn.Module) -> dict[str, Any]:
    """The parameters that a module itself has, by name, or the tensors that ``functional_call`` puts there: not what a reparametrisation
    computes in their place.

    torch has no public function that tells the two apart and costs less than a step of a small layer. If torch's private dict disappears,
    the answer is empty, and layers go their ordinary way, which asks for each name.
    """
    return getattr(module, "_parameters", {})


def forward_mode_is_active() -> bool:
    """Whether forward-mode differentiation is active, which this package's node of autograd does not support.

    torch has no public function for this that works without a tensor. If torch's private one disappears, the answer is always False, and
    torch itself refuses forward mode through the node.
    """
    return getattr(forward_ad, "_current_level", -1) >= 0


def record_operators(function: Callable[..., Any], tensors: Sequence[Tensor]) -> torch.fx.GraphModule:
    """The operators that ``function`` calls on tensors of these shapes and types, also those of autograd inside it.

    ``make_fx`` and the table of decompositions are public in torch.fx and torch.export only under names that say they may change. If they
    disappear, the import fails, and the cells of one's own run on the plain loop.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    return make_fx(function, decomposition_table=_decompositions(), tracing_mode="fake", _allow_non_fake_inputs=True)(*tensors)


@contextmanager
def each_operator(seen: Callable[[str], None]) -> Iterator[None]:
    """Calls ``seen`` with the name of every operator that torch runs inside.

    Modes of dispatch are documented under a private name. If it disappears, the import fails, and the cells of one's own run on the plain
    loop.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    with Watch():
        yield


@cache
def _decompositions() -> dict[Any, Callable[..., Any]]:
    """Into torch's core operators, but for those whose gradient is simpler as it is."""
    from torch._decomp import core_aten_decompositions

    table: dict[Any, Callable[..., Any]] = dict(core_aten_decompositions())
    whole = ("tanh_backward", "sigmoid_backward", "threshold_backward", "select_backward", "slice_backward", "stack", "unbind")
    return {op: rule for op, rule in table.items() if op.overloadpacket.__name__ not in whole}


def constant_when_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """As ``torch.compiler.assume_constant_result``, which imports torch's tracer, 1.3 s in every process.

    If the mark that it sets gets another name, torch.compile refuses cells of one's own, which it then traces into.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def never_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """As ``torch.compiler.disable``, and the tracer is not imported before the first call."""
    return getattr(torch, "_disable_dynamo", torch.compiler.disable)(function)


def let_compile_see(kind: type[nn.Module]) -> None:
    """Let torch.compile trace instances of ``kind``, now or once torch's tracer is imported.

    The tracer refuses every instance of ``nn.RNN``, ``GRU`` or ``LSTM``, because torch's own forward would become thousands of nodes.
    This package's layers are one node for each layer and direction, but they are instances of ``nn.GRU`` and so on too. The public flag
    ``torch._dynamo.config.allow_rnn`` permits all such layers. Here it is set only while one of this package's layers is wrapped, so
    torch's own layers are treated as before. The tracer takes seconds to import, so it is patched when it is imported for another reason.

    If the tracer's method disappears, nothing is patched, and torch's refusal names the flag.
    """
    if _BUILDER in sys.modules:
        _lift(sys.modules[_BUILDER], kind)
    else:
        sys.meta_path.insert(0, _Watcher(kind))


@final
class _Watcher(MetaPathFinder):
    """Waits for the first import of the tracer."""

    def __init__(self, kind: type[nn.Module]) -> None:
        self.kind = kind

    def find_spec(
        self, fullname: str, path: Iterable[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _BUILDER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _lift(module, self.kind)

            loader.exec_module = exec_module
        return spec


def _lift(builder: Any, kind: type[nn.Module]) -> None:
    """Wrap the tracer's method that wraps modules."""
    theirs = getattr(builder.VariableBuilder, "wrap_module", None)
    if theirs is None:
        return

    def wrap_module(self: Any, value: nn.Module) -> Any:
        if not isinstance(value, kind):
            return theirs(self, value)
        with builder.config.patch(allow_rnn=True):
            return theirs(self, value)

    builder.VariableBuilder.wrap_module = wrap_module
