"""Option × transform × cell, torch.nn beside throughtime: what works, tried one by one. Prints the table of docs/torch.md.

Each try makes a layer, runs it under the transform and compares values, in both dtypes: gradients and gradients of gradients with
difference quotients, the rest with the plain gradient of the same layer. R, G and L: it works for RNN, GRU and LSTM. A dash: for none.

    python tests/contracts/transforms.py            # the table, in a minute
    python tests/contracts/transforms.py --quick    # without torch's half and without compile, in float64 alone
"""

import functools
import sys
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


def agrees_with_quotients(function, found, weights, dtype):
    """⟨found, d⟩ against (function(w + h d) − function(w − h d)) / 2h, for unit vectors d drawn at random.

    With h = ε^(1/3) both errors of the quotient, ε |f| / h of rounding and h² |f'''| / 6 of the formula, are of the order ε^(2/3). A
    thousand of these leave room for the third derivative, which of ‖∇L‖² under layer normalisation is some thousand times f: 4e-8 in
    float64, which settles the value; 2.4 % in float32, where what is left to fear is a missing term or another sign.
    """
    eps, chance = torch.finfo(dtype).eps, torch.Generator().manual_seed(2)
    h = eps ** (1 / 3)
    for _ in range(3):
        d = {name: torch.randn(p.shape, generator=chance, dtype=dtype) for name, p in weights.items()}
        length = float(sum(one.square().sum() for one in d.values()) ** 0.5)
        ends = [float(function({name: p + sign * h / length * d[name] for name, p in weights.items()})) for sign in (1, -1)]
        quotient = (ends[0] - ends[1]) / (2 * h)
        along = float(sum((found[name] * d[name]).sum() for name in weights)) / length
        assert abs(along - quotient) <= 1000 * eps ** (2 / 3) * max(abs(ends[0]), abs(quotient))


def gradient(f, layer, call, weights, xs, dtype):
    agrees_with_quotients(lambda w: f(w, xs), reference(f, weights, xs), weights, dtype)


def gradient_of_gradient(f, layer, call, weights, xs, dtype):
    leaves = {name: p.clone().requires_grad_() for name, p in weights.items()}
    first = torch.autograd.grad(f(leaves, xs), list(leaves.values()), create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), list(leaves.values()))
    size = lambda w: sum(g.square().sum() for g in reference(f, w, xs).values())
    agrees_with_quotients(size, dict(zip(leaves, second, strict=True)), weights, dtype)


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


def works(kind, option, transform, dtypes) -> bool:
    made, call = OPTIONS[option]
    for dtype in dtypes:
        torch.manual_seed(0)
        try:
            layer = kind(I, H, dtype=dtype, **made)
            weights = {name: p.detach() for name, p in layer.named_parameters()}
            f = functools.partial(loss, layer, call)
            TRANSFORMS[transform](f, layer, call, weights, torch.randn(T, B, I, dtype=dtype), dtype)
        except Exception:  # whatever it refuses with
            return False
    return True


def table(*, sides=(0, 1), dtypes=(torch.float32, torch.float64), transforms=tuple(TRANSFORMS)) -> str:
    """In markdown: ours, and torch's after a stroke."""
    rows = [["", *transforms], ["---"] * (1 + len(transforms))]
    for option in OPTIONS:
        row = [option]
        for transform in transforms:
            tried = ["".join(c for c, kinds in CELLS.items() if works(kinds[side], option, transform, dtypes)) or "–" for side in sides]
            row.append(" / ".join(tried))
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    quick = {"sides": (0,), "dtypes": (torch.float64,), "transforms": [name for name, run in TRANSFORMS.items() if run is not compiled]}
    print(table(**quick) if "--quick" in sys.argv else table())
