# %% [markdown]
# # A cell of your own
#
# One step written in torch; everything in the package works with it. The minimal gated unit (Zhou et al. 2016) has one gate where the GRU
# has two:
#
#     f  = σ(wx_f + rh_f)                 (1)
#     n  = tanh(wx_n + f ⊙ rh_n)          (2)     the gate after the product, as in the GRU here
#     h' = (1 − f) ⊙ h + f ⊙ n            (3)
#
# It learns to add two marked numbers out of a sequence of 30. The constant answer 1 has an error of 1/6 = 0.167. Half a minute on one core.
# [A cell of your own](../docs/quickstart/cell.md) has more.

# %%
from dataclasses import dataclass
from typing import final

import torch

import throughtime as tt
from throughtime.cells import AbstractCell
from throughtime.models import Head, Linear, SquaredError, Vectors
from throughtime.nn import Recurrence


# %%
@final
@dataclass(frozen=True)
class MGU(AbstractCell):
    """Minimal gated unit. A cell receives W x and R h of every gate, and has no weights itself."""

    gates = 2  # rows of W and R: f, n
    states = 1  # h alone
    elementwise = True  # unit j of h' depends on unit j of wx, rh and h alone: gradient_flow and RTRL are then cheaper

    def step(self, wx, rh, state):
        (h,) = state  # (B, H); wx and rh are (B, G, H)
        f = torch.sigmoid(wx[:, 0] + rh[:, 0])  # (1)
        n = torch.tanh(wx[:, 1] + f * rh[:, 1])  # (2)
        return ((1 - f) * h + f * n,)  # (3)

    # With a C++ compiler at hand this step becomes a kernel at its first use, forward and backward, as fast as the cells of the package.
    # throughtime.compile_cell(MGU()) compiles it now, or says why it cannot be: a step may not mix the units of a layer.


# %%
def network(hidden_size: int) -> tt.SequenceModel:
    """A model from pairs (value, mark) to one number."""
    recurrence = Recurrence(MGU(), 2, hidden_size)
    return tt.SequenceModel(Vectors(2), recurrence, Head(hidden_size, 1, output=Linear(), loss=SquaredError()))


def main(steps: int, length: int) -> float:
    """Train, and return the mean error of the last tenth of the steps."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = network(32)
    gradient = tt.gradients.FullBPTT()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    errors = []
    for step in range(1, steps + 1):
        batch = tt.data.adding(length, 32, generator)
        optimizer.zero_grad()
        errors.append(float(gradient.accumulate(model, batch).loss))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % max(1, steps // 10) == 0:
            recent = errors[-max(1, steps // 10) :]
            print(f"step {step:5}  error {sum(recent) / len(recent):.4f}")
    return sum(recent) / len(recent)


# %%
if __name__ == "__main__":
    main(steps=1000, length=30)
