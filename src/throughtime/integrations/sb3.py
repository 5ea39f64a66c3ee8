"""sb3-contrib's ``RecurrentPPO``: its loop over single steps becomes one call of the layer with ``reset=``.

Where an episode begins inside of a sequence, the policy sets the state back and therefore calls its LSTM step by step. Both compute

    (h_t, c_t) = LSTM(x_t, (1 − e_t) · (h_{t−1}, c_{t−1}))        e_t = 1 where an episode begins                          (1)
"""

# pyright: reportMissingImports=false
from typing import Any, TypeVar

from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from torch import Tensor, nn

from ..nn import Layers, accelerate as accelerate_layers, restore as restore_layers

Given = TypeVar("Given")
NAME = "_process_sequence"  # the policy's method that runs an LSTM


def accelerate(agent: Given) -> Given:
    """Let an agent's, or a policy's, LSTMs run on the packed kernels, in one call for each sequence. It is changed in place.

    Optimiser, weights, saving and loading stay as they are. An agent that was loaded is accelerated anew.

    Raises:
        TypeError: it has no recurrent policy.
        NotImplementedError: the policy has a ``_process_sequence`` of its own, or an LSTM that cannot be replaced.

    >>> from sb3_contrib import RecurrentPPO
    >>> agent = accelerate(RecurrentPPO("MlpLstmPolicy", "CartPole-v1", n_steps=16, batch_size=16))
    >>> _ = agent.learn(16)
    """
    policy = _policy(agent)
    if getattr(type(policy), NAME) is not getattr(RecurrentActorCriticPolicy, NAME):
        raise NotImplementedError(
            f"{type(policy).__name__} has a {NAME} of its own, which is not ours to replace. throughtime.accelerate(policy) leaves it."
        )
    accelerate_layers(policy)
    if left := [name for name, m in policy.named_modules() if isinstance(m, nn.RNNBase) and not isinstance(m, Layers)]:
        restore_layers(policy)
        raise NotImplementedError(f"{', '.join(left)} cannot be replaced: throughtime.accelerate(policy) says why. Nothing has changed.")
    setattr(policy, NAME, one_call)
    return agent


def restore(agent: Given) -> Given:
    """Undo ``accelerate``."""
    policy = _policy(agent)
    vars(policy).pop(NAME, None)
    restore_layers(policy)
    return agent


def one_call(features: Tensor, states: Any, episode_starts: Tensor, layer: Any) -> tuple[Tensor, Any]:
    """Equation (1) for whole sequences.

    Args:
        features: (N·T, I), T steps of each of N sequences in a row.
        states: before the first step, (L, N, H), for LSTM a pair.
        episode_starts: (N·T,) 1 where an episode begins, else 0.
        layer: one of this package's.

    Returns:
        The output (N·T, H), and the last states.
    """
    N = (states[0] if isinstance(states, tuple) else states).shape[1]
    xs = features.reshape(N, -1, layer.input_size).transpose(0, 1)  # (T, N, I)
    hs, last = layer(xs, states, reset=episode_starts.reshape(N, -1).T != 0)
    return hs.transpose(0, 1).flatten(0, 1), last


def _policy(agent: Any) -> RecurrentActorCriticPolicy:
    policy = getattr(agent, "policy", agent)
    if not isinstance(policy, RecurrentActorCriticPolicy):
        raise TypeError(f"got a {type(agent).__name__}; expected RecurrentPPO or its policy. For other models: throughtime.accelerate.")
    return policy
