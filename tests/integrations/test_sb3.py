"""sb3-contrib's RecurrentPPO on the packed kernels: the same numbers and gradients, in one call."""

import pytest
import torch
from _rounding import assert_close, path, rounding
from torch import nn

sb3_contrib = pytest.importorskip("sb3_contrib")

import gymnasium  # noqa: E402 not without sb3-contrib
from gymnasium.wrappers import TimeLimit  # noqa: E402
from sb3_contrib.common.recurrent.type_aliases import RNNStates  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv  # noqa: E402

import throughtime as tt  # noqa: E402
from throughtime.integrations import sb3  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
N, T = 3, 11


def agent(**options):
    """Episodes of at most 9 steps, so that they end inside of a roll-out of 32."""
    torch.set_default_dtype(torch.float32)
    make = lambda: TimeLimit(gymnasium.make("CartPole-v1"), 9)
    return sb3_contrib.RecurrentPPO(
        "MlpLstmPolicy",
        DummyVecEnv([make] * 2),
        n_steps=32,
        batch_size=32,
        n_epochs=2,
        seed=1,
        policy_kwargs={"lstm_hidden_size": 16} | options,
    )


def evaluated(policy, starts):
    """The outputs of ``evaluate_actions`` in float32, to which the policy turns what it sees, and every gradient."""
    policy.zero_grad()
    g = torch.Generator().manual_seed(3)
    states = tuple(torch.randn(policy.lstm_actor.num_layers, N, 16, generator=g) for _ in range(2))
    obs = torch.randn(N * T, 4, generator=g)
    actions = torch.randint(2, (N * T,), generator=g)
    values, log_prob, entropy = policy.evaluate_actions(obs, actions, RNNStates(states, states), starts)
    weight = torch.randn(N * T, generator=g)
    (weight * (values.flatten() + log_prob + 0.1 * entropy)).sum().backward()
    return [values, log_prob, entropy, *(p.grad.clone() for p in policy.parameters() if p.grad is not None)]


@pytest.mark.parametrize(
    "options", [{}, {"n_lstm_layers": 2}, {"enable_critic_lstm": False}, {"shared_lstm": True, "enable_critic_lstm": False}]
)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_same_values_and_gradients(options, share):
    policy = agent(**options).policy
    starts = torch.rand(N * T, generator=torch.Generator().manual_seed(5)).lt(share).float()
    wanted = evaluated(policy, starts)
    sb3.accelerate(policy)
    calls = []
    policy.lstm_actor.register_forward_pre_hook(lambda layer, args: calls.append(args[0].shape))
    got = evaluated(policy, starts)
    assert calls == [(T, N, policy.features_dim)] * len(calls)  # whole sequences
    assert_close(got, wanted, rounding(path(T, 16 + 64, layers=4), 10, torch.float32))  # LSTMs, and a head whose gradients nearly cancel


def test_a_training_gives_the_same_losses():
    losses = []
    for ours in (False, True):
        one = agent()
        if ours:
            sb3.accelerate(one)
        one.learn(128)
        losses.append([one.logger.name_to_value["train/loss"], one.logger.name_to_value["train/value_loss"]])
    # float32, 2 updates: the first agrees to eps·T; two optimiser steps of Adam, which divides by a gradient's size, may lose half the digits
    torch.testing.assert_close(torch.tensor(losses[1]), torch.tensor(losses[0]), rtol=torch.finfo(torch.float32).eps ** 0.5, atol=0)


def test_restore_saving_and_loading(tmp_path):
    one = sb3.accelerate(agent())
    one.learn(64)
    one.save(tmp_path / "agent.zip")
    again = sb3_contrib.RecurrentPPO.load(tmp_path / "agent.zip")
    assert type(again.policy.lstm_actor) is nn.LSTM
    assert all(torch.equal(a, b) for a, b in zip(again.policy.parameters(), one.policy.parameters(), strict=True))
    sb3.restore(one)
    assert type(one.policy.lstm_actor) is nn.LSTM
    assert "_process_sequence" not in vars(one.policy)


def test_what_cannot_be_accelerated_is_refused():
    with pytest.raises(TypeError, match=r"got a Linear; expected RecurrentPPO or its policy. For other models: throughtime.accelerate."):
        sb3.accelerate(nn.Linear(1, 1))
    policy = agent().policy
    policy.lstm_critic.forward = lambda *args: None
    with pytest.raises(NotImplementedError, match="lstm_critic cannot be replaced"):
        sb3.accelerate(policy)
    assert (type(policy.lstm_actor), "_process_sequence" in vars(policy)) == (nn.LSTM, False)

    class Own(type(policy)):
        @staticmethod
        def _process_sequence(*args):
            return args

    policy.__class__ = Own
    with pytest.raises(NotImplementedError, match="a _process_sequence of its own"):
        sb3.accelerate(policy)


def test_both_forms_of_states():
    layer, features = tt.GRU(3, 5), torch.randn(8, 3)
    out, last = sb3.one_call(features, torch.zeros(1, 2, 5), torch.zeros(8), layer)
    assert (out.shape, last.shape) == ((8, 5), (1, 2, 5))
