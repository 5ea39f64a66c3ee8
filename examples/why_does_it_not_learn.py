# %% [markdown]
# # Why does it not learn?
#
# Two symbols stand in a sequence of 50, far from its end and from each other, and the network is asked at the end in which order they came.
# An LSTM started as torch does stays at chance, ln 4 = 1.386 nats. Its gradient says why, and what to change, before any training.
# Half a minute on one core.

# %%
import matplotlib.pyplot as plt
import torch

import throughtime as tt
from throughtime.nn import AbstractInitialiser, Chrono, TorchUniform

LENGTH, STEPS, HIDDEN, STREAMS = 50, 400, 32, 32
SYMBOLS, ORDERS = 6, 4


# %%
def network(*initialisers: AbstractInitialiser) -> tt.SequenceModel:
    torch.manual_seed(0)
    recurrence = tt.nn.Recurrence(tt.cells.LSTM(), SYMBOLS, HIDDEN, initialisers=initialisers)
    return tt.SequenceModel(tt.models.OneHot(SYMBOLS), recurrence, tt.models.Head(HIDDEN, ORDERS))


def trained(model: tt.SequenceModel) -> float:
    """Train, and return the mean loss of the last 20 steps."""
    generator, optimizer, losses = torch.Generator().manual_seed(1), torch.optim.Adam(model.parameters(), 0.01), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        losses.append(float(tt.gradients.FullBPTT().accumulate(model, tt.data.temporal_order(LENGTH, STREAMS, generator)).loss))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return sum(losses[-20:]) / 20


@torch.no_grad()
def accuracy(model: tt.SequenceModel) -> float:
    batch = tt.data.temporal_order(LENGTH, 1000, torch.Generator().manual_seed(2))
    outputs, _ = model(batch.inputs)
    return float((outputs[-1].argmax(-1) == batch.targets[-1]).float().mean())


def diagnose(model: tt.SequenceModel) -> tt.flow.Flow:
    flow = tt.gradient_flow(model, tt.data.temporal_order(LENGTH, STREAMS, torch.Generator().manual_seed(3)))
    far = float(flow.adjoint.profile[LENGTH // 2] / flow.adjoint.profile[0])
    print(flow.verdict.sentence)
    print(f"Of the gradient of the last loss, {far:.1e} arrives {LENGTH // 2} steps back, about where the second symbol stands.")
    for advice in flow.verdict.advice:
        print(f"- {advice.told('python')}")
    return flow


# %% [markdown]
# ## As torch starts it
#
# The forget gates start half open, so that the gradient loses 40 % at every step. Where the symbols stand, nothing arrives.

# %%
before = diagnose(model := network(TorchUniform()))
loss, failed = trained(model), accuracy(model)
print(f"\nafter {STEPS} steps: loss {loss:.3f}, {failed:.0%} right; chance is 25 %")

# %% [markdown]
# ## As advised
#
# `Chrono(50)` spreads the gates' memory over 1 to 50 steps (Tallec & Ollivier 2018). The network, the task, the rate and the steps are the
# same.

# %%
after = diagnose(model := network(TorchUniform(), Chrono(LENGTH)))
loss, learned = trained(model), accuracy(model)
print(f"\nafter {STEPS} steps: loss {loss:.3f}, {learned:.0%} right")

# %% [markdown]
# ![Two profiles: one falls by twelve orders of magnitude in 50 steps, the other by one.](../docs/figures/why_does_it_not_learn.png)
#
# [Reading a flow report](../docs/reading_a_flow_report.md) explains what else the measurement says.

# %%
figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
for name, flow in {"as torch starts it": before, f"Chrono({LENGTH}), as advised": after}.items():
    axes.semilogy(flow.adjoint.profile, label=name)
axes.set(xlabel="lag k", ylabel="‖∂L$_t$/∂s$_{t−k}$‖", title="how far back the gradient reaches, before training")
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
plt.savefig("why_does_it_not_learn.png", dpi=80)
