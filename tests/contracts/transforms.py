"""Option × transform × cell, torch.nn beside throughtime: what works, tried one by one. Prints the table of the README.

Each try makes a layer, runs it under the transform and compares with plain autograd of the same layer, in both dtypes.
R, G and L: it works for RNN, GRU and LSTM. A dash: for none.
"""

import functools
import warnings

import torch
from torch import nn
from torch.func import functional_call

import throughtime as tt

T, B, I, H = 5, 3, 2, 4
CELLS = {"R": (tt.RNN, nn.RNN), "G": (tt.GRU, nn.GRU), "L": (tt.LSTM, nn.LSTM)}

# An option: of the constructor, and of the call.
OPTIONS = {
    "bare": ({}, {}),
    "2 layers, bidirectional": ({"num_layers": 2, "bidirectional": True}, {}),
    "`proj_size`": ({"proj_size": 3}, {}),
    "`lengths`": ({}, {"lengths": [2, 5, 3]}),
    "`reset` mask": ({}, {"reset": torch.arange(T * B).view(T, B) % 4 == 0}),
    "`learn_h0`": ({"learn_h0": True}, {}),
    "`recurrent_dropout`": ({"recurrent_dropout": 0.3}, {}),
    "`zoneout`": ({"zoneout": 0.3}, {}),
    "`layer_norm`": ({"layer_norm": True}, {}),
    '`nonlinearity="sigmoid"`': ({"nonlinearity": "sigmoid"}, {}),
    "`state_batch_first`": ({"state_batch_first": True}, {}),
    '`memory="lean"`': ({"memory": "lean"}, {}),
}


def loss(layer, call, weights, xs):
    """A number that depends on every output."""
    torch.manual_seed(1)
    output, last = functional_call(layer, weights, (xs,), call)
    last = last if isinstance(last, tuple) else (last,)
    return output.square().sum() + sum((s**3).sum() for s in last)


def reference(f, weights, xs):
    leaves = {name: p.clone().requires_grad_() for name, p in weights.items()}
    found = torch.autograd.grad(f(leaves, xs), list(leaves.values()))
    return dict(zip(leaves, found, strict=True))


def close(a, b, dtype):
    scale = max(float(b.abs().max()), 1e-3)
    assert float((a - b).abs().max()) <= 1000 * torch.finfo(dtype).eps * scale


def gradient(f, layer, call, weights, xs, dtype):
    reference(f, weights, xs)


def gradient_of_gradient(f, layer, call, weights, xs, dtype):
    leaves = {name: p.clone().requires_grad_() for name, p in weights.items()}
    first = torch.autograd.grad(f(leaves, xs), list(leaves.values()), create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), list(leaves.values()))
    if dtype == torch.float64:  # against a difference quotient along the gradient
        length = float(sum(g.detach().square().sum() for g in first).sqrt())
        step, direction = 1e-6, [g.detach() / length for g in first]
        ends = []
        for sign in (1, -1):
            moved = {name: p + sign * step * d for (name, p), d in zip(weights.items(), direction, strict=True)}
            ends.append(sum(g.square().sum() for g in reference(f, moved, xs).values()))
        quotient = (ends[0] - ends[1]) / (2 * step)
        along = sum((s * d).sum() for s, d in zip(second, direction, strict=True))
        assert abs(float(along - quotient)) <= 1e-6 * max(1.0, abs(float(quotient)))


def forward_mode(f, layer, call, weights, xs, dtype):
    directions = {name: torch.full_like(p, 0.5) for name, p in weights.items()}
    along = torch.func.jvp(lambda w: f(w, xs), (weights,), (directions,))[1]
    close(along, sum(0.5 * g.sum() for g in reference(f, weights, xs).values()), dtype)


def per_sample(f, layer, call, weights, xs, dtype):
    many = torch.stack([xs, 0.5 * xs])
    each = torch.func.vmap(torch.func.grad(f), in_dims=(None, 0), randomness="same")(weights, many)
    for k, one in enumerate(many):
        for name, g in reference(f, weights, one).items():
            close(each[name][k], g, dtype)


def compiled(f, layer, call, weights, xs, dtype):
    torch._dynamo.reset()
    run = lambda xs: layer(xs, **call)[0]
    torch.manual_seed(1)
    got = torch.compile(run, fullgraph=True, backend="eager")(xs)
    torch.manual_seed(1)
    close(got, run(xs), dtype)


TRANSFORMS = {
    "gradient": gradient,
    "gradient of the gradient": gradient_of_gradient,
    "forward mode": forward_mode,
    "`vmap(grad)`": per_sample,
    "`compile(fullgraph=True)`": compiled,
}


def works(kind, option, transform) -> bool:
    """In float32 and in float64."""
    made, call = OPTIONS[option]
    for dtype in (torch.float32, torch.float64):
        torch.manual_seed(0)
        try:
            layer = kind(I, H, dtype=dtype, **made)
            weights = {name: p.detach() for name, p in layer.named_parameters()}
            f = functools.partial(loss, layer, call)
            TRANSFORMS[transform](f, layer, call, weights, torch.randn(T, B, I, dtype=dtype), dtype)
        except Exception:  # whatever it refuses with
            return False
    return True


def table() -> str:
    """In markdown: ours, and torch's after a stroke."""
    rows = [["", *TRANSFORMS], ["---"] * (1 + len(TRANSFORMS))]
    for option in OPTIONS:
        row = [option]
        for transform in TRANSFORMS:
            sides = ["".join(c for c, kinds in CELLS.items() if works(kinds[side], option, transform)) or "–" for side in (0, 1)]
            row.append(" / ".join(sides))
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(table())
