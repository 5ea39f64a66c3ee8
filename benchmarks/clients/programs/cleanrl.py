"""CleanRL's PPO with an LSTM: ``ppo_atari_lstm.py --env-id BreakoutNoFrameskip-v4``; and the same agent without convolutions.

Most of Breakout's time is spent in convolutions and the emulator. The second program has neither: it sees the positions of CartPole.
"""

import sys
from pathlib import Path

from ._program import Program, with_method

ONE_CALL = """\
def get_states(self, x, lstm_state, done):
    hidden = self.network(x / 255.0).reshape(-1, lstm_state[0].shape[1], self.lstm.input_size)
    hs, lstm_state = self.lstm(hidden, lstm_state, reset=done.reshape(hidden.shape[:2]))
    return hs.flatten(0, 1), lstm_state
"""
POSITIONS = """\
def make_env(env_id, idx, capture_video, run_name):
    def thunk():
        env = gym.wrappers.RecordEpisodeStatistics(gym.make(env_id))
        env = gym.wrappers.TransformObservation(env, lambda seen: 255 * seen[[0, 2]])  # get_states divides by 255
        env.observation_space = gym.spaces.Box(-np.inf, np.inf, (2,))
        return env

    return thunk
"""
WITHOUT_CONVOLUTIONS = """\
def __init__(self, envs):
    super().__init__()
    self.network = nn.Sequential(layer_init(nn.Linear(2, 64)), nn.Tanh())
    self.lstm = nn.LSTM(64, 128)
    for p in self.lstm.parameters():
        nn.init.orthogonal_(p) if p.ndim == 2 else nn.init.zeros_(p)
    self.actor = layer_init(nn.Linear(128, envs.single_action_space.n), std=0.01)
    self.critic = layer_init(nn.Linear(128, 1), std=1)
"""


def breakout(sources: Path, folder: Path) -> list[str]:
    from ale_py.registration import register_v0_v4_envs

    register_v0_v4_envs()  # gymnasium's own entry point for it is of a later version
    return words(sources, sources / "cleanrl/ppo_atari_lstm.py", "BreakoutNoFrameskip-v4", 2_048)


def cartpole(sources: Path, folder: Path) -> list[str]:
    script = (sources / "cleanrl/ppo_atari_lstm.py").read_text("utf-8")
    changed = with_method(with_method(script, "make_env", POSITIONS), "__init__", WITHOUT_CONVOLUTIONS)
    (folder / "ppo_lstm.py").write_text(changed, "utf-8")
    return words(sources, folder / "ppo_lstm.py", "CartPole-v1", 8_192)


def words(sources: Path, script: Path, environment: str, steps: int) -> list[str]:
    sys.path.insert(0, str(sources))  # cleanrl_utils
    return [str(script), "--env-id", environment, "--total-timesteps", str(steps), "--no-cuda"]


ATARI = Program(
    title="CleanRL's PPO with an LSTM of 128, convolutions, Breakout",
    repository="vwxyzjn/cleanrl",
    commit="fe8d8a0",
    packages=("gymnasium==0.29.1", "ale-py==0.12.1", "opencv-python-headless", "tyro"),
    differs="2,048 of 10,000,000 time steps",
    command=breakout,
    integration=lambda script: with_method(script, "get_states", ONE_CALL),
)
POLE = ATARI._replace(
    title="CleanRL's PPO with an LSTM of 128, no convolutions",
    differs="8,192 of 10,000,000 time steps; `make_env` makes CartPole without velocities, the encoder is one linear layer",
    command=cartpole,
)
