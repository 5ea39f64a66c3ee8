# %% [markdown]
# # PPO with an LSTM
#
# In the manner of CleanRL's ppo_atari_lstm.py, which calls its LSTM once for each step, because the state is set back where an episode
# begins. Here the agent's loop over steps is one call with `reset=` ([loops of other packages](../docs/integrations.md)).
#
# A sign is seen first, and `delay` steps or a few more later the agent must turn to its side. Without memory, half of the turns are right;
# the program prints the share of right turns as it learns.

# %%
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

import throughtime as tt

GAMMA, LAMBDA, CLIP, ENTROPY, EPOCHS = 0.95, 0.9, 0.2, 0.01, 4


# %%
class Corridors:
    """B corridors side by side. Observations are (sign at the first step, 1 at the junction); actions 0 and 1 turn left and right."""

    def __init__(self, B: int, delay: int) -> None:
        self.delay, self.sign, self.left = delay, torch.zeros(B), torch.zeros(B, dtype=torch.long)
        self.done = torch.ones(B, dtype=torch.bool)

    def observe(self) -> tuple[Tensor, Tensor]:
        """(B, 2) what is seen, and (B,) whether an episode begins with it."""
        first = self.done
        self.sign = torch.where(first, torch.randint(2, self.sign.shape) * 2.0 - 1, self.sign)
        self.left = torch.where(first, self.delay + torch.randint(3, self.left.shape), self.left)
        return torch.stack((self.sign * first, (self.left == 0).float()), 1), first

    def act(self, actions: Tensor) -> Tensor:
        """(B,) rewards: 1 for a right turn at the junction, −1 for a wrong one."""
        self.done, self.left = self.left == 0, self.left - 1
        return self.done * (2.0 * (actions == (self.sign > 0)) - 1)


# %%
class Agent(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, hidden), nn.Tanh())
        self.lstm = tt.LSTM(hidden, hidden)
        self.actor, self.critic = nn.Linear(hidden, 2), nn.Linear(hidden, 1)

    def forward(self, seen: Tensor, state: tuple[Tensor, Tensor], first: Tensor) -> tuple[Categorical, Tensor, tuple[Tensor, Tensor]]:
        """(T, B, 2), the state before it, and (T, B) True where an episode begins → policy, values (T, B), state."""
        hs, state = self.lstm(self.encoder(seen), state, reset=first)  # instead of the loop over steps
        return Categorical(logits=self.actor(hs)), self.critic(hs).squeeze(-1), state


# %%
def advantages(rewards: Tensor, values: Tensor, first: Tensor, next_value: Tensor, next_first: Tensor) -> Tensor:
    """Generalised advantage estimation (Schulman et al. 2016), cut where an episode ends."""
    found, last = torch.zeros_like(rewards), torch.zeros_like(next_value)
    for t in reversed(range(len(rewards))):
        ends, upcoming = (next_first, next_value) if t == len(rewards) - 1 else (first[t + 1], values[t + 1])
        found[t] = last = rewards[t] + ~ends * GAMMA * (upcoming + LAMBDA * last) - values[t]
    return found


def train(updates: int, delay: int, hidden: int = 32, B: int = 32, T: int = 64) -> float:
    """The share of right turns in the last roll-outs."""
    corridors, agent = Corridors(B, delay), Agent(hidden)
    optimizer = torch.optim.Adam(agent.parameters(), 3e-3, eps=1e-5)
    state, right = (torch.zeros(1, B, hidden), torch.zeros(1, B, hidden)), 0.5
    for update in range(1, updates + 1):
        begin, steps = state, []
        for _ in range(T):
            seen, first = corridors.observe()
            with torch.no_grad():
                policy, value, state = agent(seen[None], state, first[None])
            action = policy.sample()[0]
            steps.append((seen, first, action, policy.log_prob(action)[0], value[0], corridors.act(action)))
        seen, first, actions, log_probs, values, rewards = map(torch.stack, zip(*steps, strict=True))
        with torch.no_grad():  # of what may come next: the value of seeing nothing, or no value after an end
            next_value = agent(torch.zeros(1, B, 2), state, corridors.done[None])[1][0]
        gained = advantages(rewards, values, first, next_value, corridors.done)
        for _ in range(EPOCHS):
            for rows in torch.randperm(B).chunk(4):  # whole environments, whose states are known
                policy, value, _ = agent(seen[:, rows], (begin[0][:, rows], begin[1][:, rows]), first[:, rows])
                gain = (gained[:, rows] - gained[:, rows].mean()) / (gained[:, rows].std() + 1e-8)
                ratio = (policy.log_prob(actions[:, rows]) - log_probs[:, rows]).exp()
                loss = -torch.min(gain * ratio, gain * ratio.clamp(1 - CLIP, 1 + CLIP)).mean() - ENTROPY * policy.entropy().mean()
                optimizer.zero_grad()
                (loss + 0.5 * (value - (gained + values)[:, rows]).square().mean()).backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                optimizer.step()
        right = 0.9 * right + 0.1 * float((rewards[rewards != 0] > 0).float().mean())
        if update % 10 == 0 or update == updates:
            print(f"update {update:4d}  right turns {right:.2f}", flush=True)
    return right


# %%
if __name__ == "__main__":
    torch.manual_seed(0)
    train(updates=80, delay=6)
