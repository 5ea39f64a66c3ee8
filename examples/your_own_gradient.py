"""A gradient method of your own: one ``accumulate``, and training and comparison work with it.

Simultaneous perturbation (Spall 1992) sends nothing back through time at all. With v of independent signs ±1 and a small ε,

    ĝ = v · (L(θ + ε v) − L(θ − ε v)) / 2ε          (1)

Since E[v vᵀ] = 1, E ĝ = ∇L + O(ε²): without bias, in the memory of a forward pass, at the price of a variance that grows with the
number of weights. Averaging over more perturbations divides it.

    python examples/your_own_gradient.py --perturbations 100
"""

import argparse
from dataclasses import dataclass
from typing import final

import torch

import throughtime as tt
from throughtime.gradients import AbstractGradient, Carry, FullBPTT, Outcome, TruncatedBPTT, carried_state, compare, starting_state
from throughtime.models import Head, Linear, SquaredError, Vectors
from throughtime.nn import Recurrence


@final
@dataclass(frozen=True)
class Perturbation(AbstractGradient):
    """ĝ of (1), the mean over some perturbations. The fields are the options; a ``seed`` lets ``compare`` draw it many times."""

    perturbations: int = 1
    size: float = 1e-4
    seed: int = 0
    agrees = "in expectation"

    @torch.no_grad()
    def accumulate(self, model, batch, carry=None):
        generator = torch.Generator().manual_seed(self.seed)
        state = starting_state(model, carried_state(carry, repr(self)), batch.fresh, batch.B)

        def run():
            hs, last = model.recurrence(model.enter(batch), state)  # stations ② and ③
            return model.losses(hs, batch).sum() * model.scale(batch), last  # station ④

        weights = list(model.parameters())
        for _ in range(self.perturbations):
            signs = [torch.randint(2, p.shape, generator=generator).to(p) * 2 - 1 for p in weights]
            up = self._moved(weights, signs, self.size, run)
            down = self._moved(weights, signs, -self.size, run)
            slope = (up - down) / (2 * self.size) / self.perturbations
            for p, v in zip(weights, signs, strict=True):
                p.grad = slope * v if p.grad is None else p.grad + slope * v  # (1); a method adds to what stands
        loss, last = run()
        return Outcome(loss, Carry(last))  # the state goes on, detached

    def _moved(self, weights, signs, size, run):
        """The loss with every weight moved by ``size`` along its sign, and put back to the same bits."""
        before = [p.clone() for p in weights]
        for p, v in zip(weights, signs, strict=True):
            p.add_(v, alpha=size)
        loss, _ = run()
        for p, kept in zip(weights, before, strict=True):
            p.copy_(kept)
        return loss


def main(perturbations: int, draws: int) -> list[tt.gradients.Compared]:
    """Compare it with the exact gradient and a truncated one."""
    torch.manual_seed(0)
    model = tt.SequenceModel(Vectors(2), Recurrence(tt.cells.GRU(), 2, 8), Head(8, 1, output=Linear(), loss=SquaredError()))
    batch = tt.data.adding(20, 16, torch.Generator().manual_seed(0))
    methods = {"full": FullBPTT(), "two steps": TruncatedBPTT(2), "perturbation": Perturbation(perturbations)}
    rows = list(compare(model, batch, methods, draws=draws))
    for row in rows:
        print(f"{row.name:12}  cosine {row.cosine:6.3f}  bias {row.bias:.1e} (noise alone: {row.noise:.1e})  {row.milliseconds:6.1f} ms")
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A gradient method of your own, compared with the exact one.")
    parser.add_argument("--perturbations", type=int, default=100)
    parser.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    main(options.perturbations, options.draws)
