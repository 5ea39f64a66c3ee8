"""Canaries: each fails with a sentence that names the private place of torch which has moved, and says what that costs until it is mended."""

import ast
from pathlib import Path

import pytest
import torch
from torch.autograd import forward_ad

import throughtime as tt
from throughtime import _torch_private

HOUSE = Path(tt.__file__).parent
ALLOWED = {"_torch_private.py"}


def test_functorch_says_whether_it_is_active():
    seen = []
    torch.func.vmap(lambda x: seen.append(_torch_private.functorch_is_active()) or x)(torch.zeros(2))
    assert hasattr(torch._C, "_are_functorch_transforms_active"), (
        "torch._C._are_functorch_transforms_active has moved: every call now goes by way of the operator, which is right and slower."
    )
    assert (seen, _torch_private.functorch_is_active()) == ([True], False)


def test_forward_mode_says_whether_it_is_active():
    assert hasattr(forward_ad, "_current_level"), (
        "torch.autograd.forward_ad._current_level has moved: forward mode through our layers is now refused by torch."
    )
    assert not _torch_private.forward_mode_is_active()
    with forward_ad.dual_level():
        assert _torch_private.forward_mode_is_active()
    assert not _torch_private.forward_mode_is_active()


def test_a_dispatch_mode_says_whether_it_is_active():
    assert hasattr(torch._C, "_len_torch_dispatch_stack"), (
        "torch._C._len_torch_dispatch_stack has moved: small calls go the ordinary way, which is right and slower."
    )
    assert not _torch_private.dispatch_mode_is_active()
    with torch.utils._python_dispatch.TorchDispatchMode():
        assert _torch_private.dispatch_mode_is_active()


def test_a_module_says_which_parameters_are_its_own():
    layer = tt.GRU(3, 5)
    assert _torch_private.own_parameters(layer).keys() == dict(layer.named_parameters()).keys(), (
        "torch.nn.Module._parameters has moved: small calls go the ordinary way, which is right and slower."
    )
    torch.nn.utils.parametrize.register_parametrization(layer, "bias_hh_l0", torch.nn.Identity())
    assert "bias_hh_l0" not in _torch_private.own_parameters(layer)


def test_marks_for_the_tracer_are_those_of_the_public_functions():
    ours, theirs = _torch_private.constant_when_compiled(lambda: 1), torch.compiler.assume_constant_result(lambda: 1)
    assert vars(ours) == vars(theirs), (
        "torch.compiler.assume_constant_result sets another mark: torch.compile now traces into our compiler of cells and refuses it."
    )
    assert hasattr(torch, "_disable_dynamo"), "torch._disable_dynamo has moved: every process now imports torch's tracer, 1.3 s."


def test_functionalize_says_whether_it_is_active():
    seen = []
    note = lambda x: seen.append(_torch_private.functionalize_is_active()) or x
    torch.func.functionalize(note)(torch.zeros(2))
    torch.func.grad(lambda x: note(x).sum())(torch.zeros(2))
    assert (seen, _torch_private.functionalize_is_active()) == ([True, False], False), (
        "torch._C._functorch.get_interpreter_stack or TransformType has moved: functionalize is now refused by torch."
    )


def test_a_batched_tensor_is_seen():
    seen = []

    class Node(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, d):
            seen.append(_torch_private.is_batched(d))
            return d

    x = torch.zeros(3, requires_grad=True)
    torch.autograd.grad(Node.apply(x), x, torch.eye(3), is_grads_batched=True)
    torch.autograd.grad(Node.apply(x), x, torch.ones(3))
    torch.func.vmap(lambda x: seen.append(_torch_private.is_batched(x)) or x)(torch.zeros(2, 2))
    assert seen == [True, False, True], "torch._C._functorch.is_(legacy_)batchedtensor has moved: is_grads_batched is now refused."
    assert not _torch_private.is_batched(None)


def test_a_fake_tensor_is_seen():
    from torch._subclasses.fake_tensor import FakeTensorMode

    assert _torch_private.is_fake(FakeTensorMode().from_tensor(torch.zeros(2))), (
        "torch._subclasses.fake_tensor.FakeTensor has moved: a fake tensor now goes by way of single operations."
    )
    assert not _torch_private.is_fake(torch.zeros(2))


def test_the_tracer_takes_our_layers_in():
    from torch._dynamo.variables import builder

    wrap = getattr(builder.VariableBuilder, "wrap_module", None)
    assert wrap is not None, (
        "torch._dynamo.variables.builder.VariableBuilder.wrap_module has moved: torch.compile now refuses our layers unless "
        "torch._dynamo.config.allow_rnn is set."
    )
    assert wrap.__module__ == _torch_private.__name__, "the hook on the tracer's import did not reach it"
    assert hasattr(builder.config, "allow_rnn"), "torch._dynamo.config.allow_rnn has moved: nothing lifts the refusal of our layers now."
    assert not builder.config.allow_rnn


@pytest.mark.parametrize("name", ["_functorch", "_current_level"])
def test_what_has_moved_costs_speed_or_forward_mode_and_no_right_number(name, monkeypatch):
    layer, xs = tt.GRU(3, 5), torch.randn(6, 4, 3)

    def results():
        plain = torch.autograd.grad(layer(xs)[0].square().sum(), list(layer.parameters()))
        per_sample = torch.func.vmap(lambda x: layer(x.unsqueeze(1))[0].square().sum(), in_dims=1)(xs)
        return [*plain, per_sample]

    wanted = results()
    if name == "_functorch":
        monkeypatch.setattr(_torch_private, name, None)
    else:
        monkeypatch.delattr(forward_ad, name)
    for got, right in zip(results(), wanted, strict=True):  # the same sums in the same kernels
        torch.testing.assert_close(got, right, rtol=1e-12, atol=1e-12)


def test_operators_are_recorded_and_seen():
    seen = []
    with _torch_private.each_operator(seen.append):
        torch.ones(2).tanh()
    assert "tanh" in seen, "torch's modes of dispatch have moved: cells of one's own now run on the plain loop."
    graph = _torch_private.record_operators(lambda x: torch.nn.functional.silu(x), [torch.ones(2)])
    names = {str(node.target) for node in graph.graph.nodes}
    assert "aten.sigmoid.default" in names or "aten.exp.default" in names, (
        "make_fx or torch's table of decompositions has moved: fewer cells of one's own have kernels."
    )


def test_a_tracer_without_the_method_is_left_alone():
    class Builder:
        VariableBuilder = type("VariableBuilder", (), {})

    _torch_private._lift(Builder, tt.nn.Layers)
    assert not hasattr(Builder.VariableBuilder, "wrap_module")


def dotted(node: ast.expr) -> list[str]:
    """The names of a.b.c; [""] in front of what does not begin with a name, such as a call's result."""
    if isinstance(node, ast.Attribute):
        return [*dotted(node.value), node.attr]
    return [node.id if isinstance(node, ast.Name) else ""]


@pytest.mark.parametrize("file", sorted(HOUSE.rglob("*.py")), ids=lambda file: str(file.relative_to(HOUSE)))
def test_no_other_file_touches_a_private_place_of_torch(file):
    if file.name in ALLOWED:
        return
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            parts = [part for alias in node.names if alias.name.split(".")[0] == "torch" for part in alias.name.split(".")]
        elif isinstance(node, ast.Attribute):
            parts = dotted(node) if dotted(node)[0] in ("torch", "forward_ad") else []
        else:
            continue
        private = [part for part in parts if part.startswith("_") and not part.startswith("__")]
        assert not private, f"line {node.lineno} uses {'.'.join(parts)}; what is private in torch goes to _torch_private.py"
