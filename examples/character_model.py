# %% [markdown]
# # A character model
#
# A GRU of 128 units learns to write like the language reference that every Python carries. It reads 32 streams of text side by side, 64
# characters at a step of training. The state is carried on from window to window; the gradient goes back 64 to 128 characters
# ([choosing a gradient method](../docs/choosing_a_gradient.md)). Half a minute on one core.

# %%
from pydoc_data.topics import topics

import matplotlib.pyplot as plt
import torch

import throughtime as tt

STEPS, STREAMS, WINDOW, HIDDEN = 400, 32, 64, 128
torch.manual_seed(0)

# %% [markdown]
# The text becomes ids, one for each character, and the ids become streams. The last tenth is held out.

# %%
text = "\n".join(topics[name] for name in sorted(topics))
vocabulary = tt.data.Chars.count([text])
ids = vocabulary.encode(text)
cut = len(ids) * 9 // 10
training, held_out = (tt.TokenStream(part, batch_size=STREAMS, window=WINDOW) for part in (ids[:cut], ids[cut:]))
print(f"{len(text):,} characters, {vocabulary.size} different ones")

# %% [markdown]
# The model has three stations: an embedding, a recurrence, and a head with its loss. `accumulate` adds the gradient to every `p.grad`, and
# returns the loss and the carry, which holds the state. What follows is any optimiser of torch.

# %%
model = tt.LanguageModel(vocabulary.size, cell=tt.cells.GRU(), hidden_size=HIDDEN)
gradient, carry = tt.gradients.TruncatedBPTT(64, 128), None
optimizer = torch.optim.Adam(model.parameters(), 5e-3)
schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, STEPS)
losses = []
for step in range(STEPS):
    optimizer.zero_grad()
    loss, carry = gradient.accumulate(model, training.at(step), carry)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    losses.append(float(loss))

# %% [markdown]
# A guess among all 104 characters costs ln 104 = 4.64 nats. After 400 steps a character of the held-out text costs about 1.43, which is
# two bits.


# %%
@torch.no_grad()
def measured(stream: tt.TokenStream) -> float:
    """The mean loss of a character, the state carried from window to window."""
    costs, state = [], None
    for batch in stream:
        outputs, state = model(batch.inputs, state)
        costs.append(torch.nn.functional.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten()))
    return float(torch.stack(costs).mean())


nats = measured(held_out)
print(f"held-out text: {nats:.2f} nats a character")

# %%
torch.manual_seed(1)
print(vocabulary.decode(model.sample(vocabulary.encode_prompt("The "), 300, temperature=0.6)))

# %% [markdown]
# ![The loss falls from 4.6 to about 1.4 nats in 400 steps, on held-out text too.](../docs/figures/character_model.png)
#
# The same from a shell, with everything that a run needs beside it: `throughtime train text book.txt`
# ([from a shell](../docs/quickstart/shell.md)).

# %%
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
axes.plot(losses, label="training")
axes.axhline(nats, color="C1", linestyle="--", label="held-out text, at the end")
axes.set(xlabel="step", ylabel="nats a character", title="a GRU reads Python's language reference")
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
plt.savefig("character_model.png", dpi=80)
