# %% [markdown]
# # A gradient method of your own
#
# It defines `accumulate`, and works in training and in `compare`. Simultaneous perturbation (Spall 1992) does not go back through time at
# all. With v of independent signs ±1 and a small ε,
#
#     ĝ = v · (L(θ + ε v) − L(θ − ε v)) / 2ε          (1)
#
# Since E[v vᵀ] = 1, E ĝ = ∇L + O(ε²). The estimate is nearly unbiased and takes the memory of a forward pass, but its variance grows with
# the number of weights. The mean over n perturbations divides the variance by n. [A gradient of your own](../docs/quickstart/gradient.md)
# shows one that goes back.

# %%
from dataclasses import dataclass
from typing import final

import torch

import throughtime as tt
from throughtime.gradients import AbstractGradient, Carry, FullBPTT, Outcome, TruncatedBPTT, carried_state, compare, starting_state
from throughtime.models import Head, Linear, SquaredError, Vectors
from throughtime.nn import Recurrence


# %%
@final
@dataclass(frozen=True)
class Perturbation(AbstractGradient):
    """ĝ of (1), the mean over some perturbations. The fields are the options; with a ``seed``, ``compare`` draws it many times."""

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
                p.grad = slope * v if p.grad is None else p.grad + slope * v  # (1); a method adds to the gradient
        loss, last = run()
        return Outcome(loss, Carry(last))  # the state is carried on; under no_grad it is detached

    def _moved(self, weights, signs, size, run):
        """The loss with every weight moved by ``size`` along its sign. The weights are restored to the same bits."""
        before = [p.clone() for p in weights]
        for p, v in zip(weights, signs, strict=True):
            p.add_(v, alpha=size)
        loss, _ = run()
        for p, kept in zip(weights, before, strict=True):
            p.copy_(kept)
        return loss


# %%
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


# %% [markdown]
# A hundred perturbations of 297 weights point roughly along the gradient; their bias is no more than what chance makes of 20 draws.

# %%
if __name__ == "__main__":
    main(perturbations=100, draws=20)
