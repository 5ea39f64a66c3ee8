# %% [markdown]
# # Per-sample gradients
#
# The gradient of a batch is a mean, and a mean does not say who pulls in which direction. `torch.func` makes the gradient of every
# sequence at once, by `vmap(grad(loss))`. torch's own recurrent layers refuse it; those of throughtime do not. Here it finds the sequences
# that have wrong labels: what the network has understood says otherwise, so their gradients are large. Ten seconds on one core.

# %%
import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

import throughtime as tt

SEQUENCES, LENGTH, HIDDEN, WRONG, STEPS = 512, 30, 16, 32, 60
torch.manual_seed(0)

# %% [markdown]
# The task: is noise drawn around ¾, or around −¾? The labels of the first 32 sequences are turned round.

# %%
labels = torch.randint(2, (SEQUENCES,)).float()
xs = torch.randn(SEQUENCES, LENGTH, 1) + 1.5 * labels.view(-1, 1, 1) - 0.75
labels[:WRONG] = 1 - labels[:WRONG]


class Classifier(nn.Module):
    def __init__(self, layer: type[nn.GRU]) -> None:
        super().__init__()
        self.rnn, self.head = layer(1, HIDDEN, batch_first=True), nn.Linear(HIDDEN, 1)

    def forward(self, xs: Tensor) -> Tensor:
        return self.head(self.rnn(xs)[0][:, -1]).squeeze(-1)


model = Classifier(tt.GRU)
cost = nn.functional.binary_cross_entropy_with_logits
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for _ in range(STEPS):
    optimizer.zero_grad()
    cost(model(xs), labels).backward()
    optimizer.step()


# %% [markdown]
# `loss` is that of one sequence, as a function of the parameters. `grad` differentiates it, `vmap` does so for all sequences together.


# %%
def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    return cost(functional_call(model, parameters, (x.unsqueeze(0),)), y.unsqueeze(0))


def per_sample(model: nn.Module) -> dict[str, Tensor]:
    """The gradient of every sequence: (N, *shape) for each parameter."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    return vmap(grad(loss), in_dims=(None, 0, 0))(parameters, xs, labels)


gradients = per_sample(model)
print({name: tuple(g.shape) for name, g in gradients.items()})

# %% [markdown]
# Their mean is the gradient of the batch, to rounding.

# %%
model.zero_grad()
cost(model(xs), labels).backward()
off = max(float((gradients[name].mean(0) - p.grad).abs().max() / p.grad.abs().max()) for name, p in model.named_parameters())
print(f"largest difference from the gradient of the batch: {off:.0e} of its largest entry")

# %% [markdown]
# Nearly all of the 32 largest gradients belong to wrong labels.
#
# ![Two histograms of norms, far apart: those of wrong labels are ten times as large.](../docs/figures/per_sample_gradients.png)

# %%
norms = torch.cat([g.flatten(1) for g in gradients.values()], 1).norm(dim=1)
found = int((norms.topk(WRONG).indices < WRONG).sum())
print(f"{found} of the {WRONG} largest gradients belong to the {WRONG} wrong labels")
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
edges = torch.logspace(float(norms.min().log10()), float(norms.max().log10()), 40).tolist()
axes.hist(norms[WRONG:].tolist(), edges, label="right labels")
axes.hist(norms[:WRONG].tolist(), edges, label="wrong labels")
axes.set(xscale="log", xlabel="norm of a sequence's gradient", ylabel="sequences")
axes.set_xticks([0.1, 0.3, 1, 3], ["0.1", "0.3", "1", "3"], minor=False)
axes.minorticks_off()
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
plt.savefig("per_sample_gradients.png", dpi=80)

# %% [markdown]
# torch's own layer refuses the same line:

# %%
model = Classifier(nn.GRU)
try:
    per_sample(model)
except RuntimeError as refusal:
    print("torch.nn.GRU:", str(refusal).splitlines()[0][:150])
