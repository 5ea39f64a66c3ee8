"""TorchRL's recurrent modules on the packed kernels: every output and gradient as theirs, and as one step after the other."""

import pytest
import torch
from _rounding import assert_close
from torch import nn

pytest.importorskip("torchrl")
pytestmark = pytest.mark.filterwarnings("ignore")

from tensordict import TensorDict  # noqa: E402 not without torchrl
from torchrl.modules import GRUModule, LSTMModule, set_recurrent_mode  # noqa: E402

from throughtime.integrations import torchrl as door  # noqa: E402

B, T, I, H = 4, 13, 3, 5


def module(kind, **options):
    keys = ["h", "c"][: 2 if kind is LSTMModule else 1]
    given = {"in_keys": ["x", *keys], "out_keys": ["y", *(("next", k) for k in keys)]}
    return kind(input_size=I, hidden_size=H, **given, **options), keys


def data(keys, layers, share, shape=(B, T), *, states=True):
    g = torch.Generator().manual_seed(1)
    draw = lambda *size: torch.randn(*shape, *size, generator=g, dtype=torch.float64)
    held = {k: draw(layers, H) for k in keys} if states else {}
    return TensorDict({"x": draw(I), "is_init": torch.rand(*shape, 1, generator=g) < share, **held}, shape)


def run(m, td, keys, *, recurrent=True):
    """All outputs, and the gradients of a random combination of them."""
    m.zero_grad()
    td = td.clone()
    leaves = [td[k].requires_grad_() for k in ("x", *keys) if k in td.keys()]  # theirs puts others in their place
    with set_recurrent_mode(recurrent):
        out = m(td)
    results = [out["y"], *(out["next", k] for k in keys)]
    g = torch.Generator().manual_seed(2)
    sum((r * torch.randn(r.shape, generator=g, dtype=torch.float64)).sum() for r in results).backward()
    grads = [leaf.grad for leaf in leaves] + [p.grad.clone() for p in m.parameters()]
    return results + grads


@pytest.mark.parametrize("kind", [LSTMModule, GRUModule])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bias": False}])
@pytest.mark.parametrize("states", [True, False])
def test_as_theirs(kind, share, options, states):
    m, keys = module(kind, **options)
    td = data(keys, options.get("num_layers", 1), share, states=states)
    wanted = run(m, td, keys)
    door.accelerate(m)
    assert_close(run(m, td, keys), wanted)
    door.restore(m)
    assert type(m) is kind
    assert_close(run(m, td, keys), wanted)


@pytest.mark.parametrize("kind", [LSTMModule, GRUModule])
def test_as_one_step_after_the_other(kind):
    m, keys = module(kind)
    td = data(keys, 1, 0.3)
    for k in keys:
        td[k] = torch.zeros_like(td[k])
    door.accelerate(m)
    outputs, held = [], {k: torch.zeros(B, 1, H, dtype=torch.float64) for k in keys}
    for t in range(T):
        step = m(TensorDict({"x": td["x"][:, t], "is_init": td["is_init"][:, t], **held}, [B]))
        outputs.append(step["y"])
        held = {k: step["next", k] for k in keys}
    assert_close(run(m, td, keys)[:1], [torch.stack(outputs, 1)])


@pytest.mark.parametrize("shape", [(T,), (2, 3, T)])
def test_other_numbers_of_batch_dimensions(shape):
    m, keys = module(LSTMModule)
    td = data(keys, 1, 0.4, shape)
    wanted = run(m, td, keys)
    assert_close(run(door.accelerate(m), td, keys), wanted)


def test_called_with_tensors_by_name():
    m, keys = module(GRUModule, default_recurrent_mode=True)
    td = data(keys, 1, 0.3)
    wanted = m(x=td["x"], h=td["h"], is_init=td["is_init"])
    assert_close(door.accelerate(m)(x=td["x"], h=td["h"], is_init=td["is_init"]), wanted)


def test_another_backend_is_left():
    m, keys = module(GRUModule, recurrent_backend="scan")
    td = data(keys, 1, 0.3)
    wanted = run(m, td, keys)
    assert_close(run(door.accelerate(m), td, keys), wanted)


def test_within_a_model():
    m, _ = module(GRUModule)
    model = nn.ModuleDict({"policy": nn.Sequential(m)})
    door.accelerate(model)
    assert (isinstance(m, GRUModule), type(m) is GRUModule, isinstance(m.gru, nn.GRU)) == (True, False, True)
    assert (type(door.restore(model)["policy"][0]), type(m.gru)) == (GRUModule, nn.GRU)


def test_trajectories_of_very_different_lengths_are_left_to_their_packing(monkeypatch):
    m, keys = module(LSTMModule)
    td = data(keys, 1, 0.0, (8, 40))
    td["is_init"][:7] = True  # 280 of one step, one of 40: padded, 35 times the batch
    wanted = run(m, td, keys)
    door.accelerate(m)
    monkeypatch.setattr(door, "by_trajectory", None)
    assert_close(run(m, td, keys), wanted)


@pytest.mark.parametrize("kind", [LSTMModule, GRUModule])
@pytest.mark.parametrize("shape", [(), (B,), (2, 3)])
@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
def test_one_step_as_theirs(kind, shape, states, layers):
    """Of a roll-out: also the gradients, for methods that train on single steps."""
    m, keys = module(kind, num_layers=layers)
    td = data(keys, layers, 0.5, shape, states=states)
    wanted = run(m, td, keys, recurrent=False)
    door.accelerate(m)
    assert_close(run(m, td, keys, recurrent=False), wanted)


def test_one_step_does_not_take_their_way(monkeypatch):
    m, keys = module(LSTMModule)
    monkeypatch.setattr(LSTMModule, "_lstm", None)
    run(door.accelerate(m), data(keys, 1, 0.5, (B,)), keys, recurrent=False)


@pytest.mark.parametrize("recurrent", [False, True])
def test_one_state_of_two_is_their_message(recurrent):
    m, keys = module(LSTMModule)
    td = door.accelerate(m) and data(keys, 1, 0.5, (B, T)[: 1 + recurrent])
    with pytest.raises((RuntimeError, TypeError), match="got type|where"), set_recurrent_mode(recurrent):
        m(td.exclude("c"))
