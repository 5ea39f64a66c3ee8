"""A made-up measurement of gradient flow: every field filled, with the holes that a real one may have. For tests of what shows it."""

import math

import torch

from throughtime.flow import AdjointMap, Advice, BiasCurve, Flow, Gates, Jacobians, LagGradients, Verdict

TEXT = "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.\n\nFirst Citizen:\nYou are all resolved rather to die than to famish?\n\nAll:\nResolved. resolved.\n"


def made_up(T: int = 24, B: int = 3, K: int | None = None, L: int = 1, H: int = 8, *, text: str | None = None, decay: float = 0.9) -> Flow:
    """T steps, K lags (all of them unless given); ``text`` names the symbols of stream 0, by code point."""
    K = K or T
    random = torch.Generator().manual_seed(5)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64).mul(0.4).exp()

    t, k = torch.arange(T).unsqueeze(1), torch.arange(K)
    there = k <= t

    def lags(scale: float = 1.0) -> torch.Tensor:
        return (scale * noise(T, 1) * noise(T, K) * decay ** k.double()).where(there, torch.nan)

    joint = lags()
    if T > 6:
        joint[3] = torch.nan  # a step without a loss
        joint[6, 1] = 0.0
    profile = joint.nanmean(0)
    quantiles = torch.nanquantile(joint, torch.tensor((0.05, 0.25, 0.5, 0.75, 0.95), dtype=torch.float64), 0)
    norms = {
        n: 0.1 * noise(K) * decay ** k.double() for n in ("input.weight", "recurrence.weight_ih_l0", "recurrence.weight_hh_l0", "head.bias")
    }
    ids = torch.randint(65, 91, (T + 1, B), generator=random)
    if text is not None:
        ids[:, 0] = torch.tensor([ord(c) for c in text[: T + 1]])
    bias = decay ** (k.double() + 1)
    bias[-1] = 0.0 if K == T else bias[-1]
    n = L * H
    least = {level: next((i + 1 for i, b in enumerate(bias.tolist()) if b <= level), None) for level in (0.1, 0.01, 0.001)}
    spectrum = noise(6, n).sort(1, descending=True).values
    openness = torch.rand(L, 3, H, generator=random, dtype=torch.float64)
    openness[:, 2] = torch.nan  # no sigmoid
    retention = openness[:, 1:2].clone()
    retention[0, 0, 0] = 1.0
    advice = (
        Advice(
            "window",
            f"A window of {min(K, 20)} steps keeps the bias below 10 %.",
            float(min(K, 20)),
            {"bias at 64": 0.031, "half lag": 7.0},
        ),
        Advice("start", "Start the recurrent matrix orthogonal.", None, {"spectral radius": 0.58}),
    )
    return Flow(
        cell="GRU()", layers=L, hidden_size=H, T=T, B=B, max_lag=K - 1, carried=False, loss=2.3456789,
        losses=noise(T, B).where((t != 3) | (T <= 6), torch.nan), inputs=ids[:-1], targets=ids[1:],
        lags=LagGradients(norms, sum(norms.values()), {}, {n: float(v.sum()) for n, v in norms.items()}, 0.7, dict.fromkeys(norms, 0.0), 3.2e-15),
        adjoint=AdjointMap(
            joint, torch.stack([joint if L == 1 else lags() for _ in range(L)]), lags(0.3), 0, lags(), lags(0.3), profile, quantiles,
            torch.stack([profile * (i + 1) for i in range(L)]), 0.3 * profile, (~joint.isnan()).sum(0).double() * B, noise(T).where(t[:, 0] < K, torch.nan),
        ),
        bias=BiasCurve(k.double() + 1, bias, 1 - bias**2 / 2, 0.9 * bias, 1 - 0.81 * bias**2 / 2, 0.7 * (1 - bias), tuple(norms)[:3], least),
        jacobians=Jacobians(
            torch.arange(6), torch.zeros(6, dtype=torch.long), spectrum, (1, 4), {1: torch.arange(6), 4: torch.arange(2)},
            {1: spectrum, 4: spectrum[:2] ** 4}, -0.1 * torch.arange(1, 5, dtype=torch.float64), torch.full((4,), math.nan if B == 1 else 0.01, dtype=torch.float64), T - 4, 4, noise(L, 3),
        ),
        gates=Gates(("r", "z", "n"), openness, torch.rand(L, 3, H, generator=random, dtype=torch.float64), retention, (math.log(0.5) / retention.log()).abs(), torch.zeros(L, dtype=torch.float64)),
        verdict=Verdict("vanishing", f"The gradient fades by a factor of {decay:g} a step: after 44 steps 1 % of it is left.", decay, 0.987, (min(1, K - 1), K - 1), 44 if K > 44 else None, 7, advice),
    )  # fmt: skip
