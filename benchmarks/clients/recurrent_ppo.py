"""sb3-contrib's RecurrentPPO on CartPole without velocities, as its documentation sets it up; one training, one JSON line.

The agent sees positions alone, so that the LSTM must remember them to know how fast they change. The policy, with its LSTMs for actor
and critic, exists as soon as the agent does: that is where ``throughtime.accelerate`` takes it.
"""

import argparse
import json
import time

import gymnasium
import numpy as np
import torch
from gymnasium.wrappers import TransformObservation
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from variants import VARIANTS, Timed, apply

from throughtime.integrations import sb3


class Losses(BaseCallback):
    """The loss of every update, and how long episodes had become by then."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.lengths: list[float] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self._note()

    def _on_training_end(self) -> None:
        self._note()

    def _note(self) -> None:
        logged = self.model.logger.name_to_value
        if "train/loss" in logged:
            self.losses.append(float(logged["train/loss"]))
            self.lengths.append(float(np.mean([e["l"] for e in self.model.ep_info_buffer])))


def positions(env: gymnasium.Env) -> gymnasium.Env:
    """(x, ẋ, θ, θ̇) → (x, θ)."""
    low, high = env.observation_space.low[[0, 2]], env.observation_space.high[[0, 2]]
    return TransformObservation(env, lambda seen: seen[[0, 2]], gymnasium.spaces.Box(low, high, dtype=np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--steps", type=int, default=8_192)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    environments = make_vec_env("CartPole-v1", n_envs=8, seed=chosen.seed, wrapper_class=positions)
    agent = RecurrentPPO("MlpLstmPolicy", environments, n_steps=128, batch_size=256, n_epochs=4, seed=chosen.seed, device="cpu")
    apply(chosen.variant, agent.policy, sb3.accelerate)
    losses, updates = Losses(), Timed(agent.train)
    agent.train = updates
    start, busy = time.perf_counter(), time.process_time()
    agent.learn(chosen.steps, callback=losses)
    took = {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - busy}
    took |= {"update_seconds": updates.seconds, "update_processor_seconds": updates.processor_seconds}
    print(json.dumps({"losses": losses.losses, "episode_lengths": losses.lengths, **took}))


if __name__ == "__main__":
    main()
