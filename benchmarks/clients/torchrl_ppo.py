"""PPO by TorchRL on CartPole without velocities: LSTMModule after an MLP encoder, as in its recurrent tutorial; one JSON line.

The roll-outs come from TorchRL's environment, one step at a time. The updates run ``ClipPPOLoss`` in recurrent mode on whole
environments, so that the LSTM sees sequences in which episodes begin anywhere.
"""

import argparse
import json
import time
import warnings

import torch
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn
from torchrl.envs import Compose, GymEnv, InitTracker, SerialEnv, StepCounter, TransformedEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import MLP, LSTMModule, OneHotCategorical, ProbabilisticActor, ValueOperator, set_recurrent_mode
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE
from variants import VARIANTS, Timed, apply

from throughtime.integrations import torchrl as door

HIDDEN, STEPS, ENVIRONMENTS, EPOCHS = 128, 128, 8, 4


def parts(seed: int) -> tuple[TransformedEnv, TensorDictSequential, nn.Module, nn.Module]:
    """Environment, the shared body with its LSTM, actor and critic."""
    make = lambda: GymEnv("CartPole-v1", device="cpu")
    lstm = LSTMModule(
        input_size=64, hidden_size=HIDDEN, in_keys=["embedded", "h", "c"], out_keys=["features", ("next", "h"), ("next", "c")]
    )
    env = TransformedEnv(SerialEnv(ENVIRONMENTS, make), Compose(InitTracker(), StepCounter(200)))
    env.append_transform(lstm.make_tensordict_primer())
    env.set_seed(seed)
    positions = TensorDictModule(lambda seen: seen[..., [0, 2]], in_keys=["observation"], out_keys=["positions"])
    encoder = TensorDictModule(MLP(in_features=2, out_features=64, num_cells=[64]), in_keys=["positions"], out_keys=["embedded"])
    body = TensorDictSequential(positions, encoder, lstm)
    logits = TensorDictModule(MLP(in_features=HIDDEN, out_features=2, num_cells=[64]), in_keys=["features"], out_keys=["logits"])
    options = {"distribution_class": OneHotCategorical, "return_log_prob": True}
    actor = ProbabilisticActor(TensorDictSequential(body, logits), in_keys=["logits"], out_keys=["action"], **options)
    head = ValueOperator(MLP(in_features=HIDDEN, out_features=1, num_cells=[64]), in_keys=["features"])
    return env, body, actor, TensorDictSequential(body, head)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--updates", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)
    env, body, actor, critic = parts(chosen.seed)
    apply(chosen.variant, body, door.accelerate)
    gae = GAE(gamma=0.99, lmbda=0.95, value_network=critic, average_gae=True, shifted=True)
    loss = ClipPPOLoss(actor, critic, clip_epsilon=0.2, entropy_coeff=0.01)
    optimizer = torch.optim.Adam(loss.parameters(), 3e-4)
    losses: list[float] = []

    def update(data):
        with set_recurrent_mode(True):
            for _ in range(EPOCHS):
                with torch.no_grad():
                    gae(data)
                for rows in torch.randperm(ENVIRONMENTS).chunk(2):
                    found = loss(data[rows])
                    total = found["loss_objective"] + found["loss_critic"] + found["loss_entropy"]
                    optimizer.zero_grad()
                    total.backward()
                    nn.utils.clip_grad_norm_(loss.parameters(), 0.5)
                    optimizer.step()
                    losses.append(float(total.detach()))

    updates = Timed(update)
    start, busy = time.perf_counter(), time.process_time()
    for _ in range(chosen.updates):
        with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
            data = env.rollout(STEPS, actor, break_when_any_done=False)
        updates(data)
    took = {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - busy}
    took |= {"update_seconds": updates.seconds, "update_processor_seconds": updates.processor_seconds}
    print(json.dumps({"losses": losses, **took}))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
