"""Guitar amplifiers of Wright et al. (DAFx 2019), as GuitarML trains them: ``dist_model_recnet.py``, with ``-l RNN2`` for a GRU.

Truncated BPTT of 1000 samples. Their recordings are not at hand, so a synthetic amplifier stands in.
"""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ._program import Program

RATE = 44_100
SECONDS = {"train": 25, "val": 3, "test": 3}  # 25 s are one batch of 50 segments


def amplifier(seconds: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Plucked notes, and the same through a valve's curve and a low-pass filter, as 16 bits."""
    from scipy.signal import lfilter

    draw, t = np.random.default_rng(seed), np.arange(RATE // 2) / RATE
    notes = [np.exp(-4 * t) * np.sin(2 * np.pi * 82.4 * 2 ** (draw.integers(36) / 12) * t) for _ in range(2 * seconds)]
    clean = 0.5 * np.concatenate(notes) + 0.001 * draw.normal(size=seconds * RATE)
    loud = lfilter([0.3], [1, -0.7], np.tanh(6 * clean + 0.3))
    return tuple((32_767 * np.clip(sound, -1, 1)).astype(np.int16) for sound in (clean, 0.8 * (loud - loud.mean())))


def command(config: str, sources: Path, folder: Path) -> list[str]:
    from scipy.io import wavfile

    for seed, (part, seconds) in enumerate(SECONDS.items()):
        (folder / part).mkdir()
        for name, sound in zip(("input", "target"), amplifier(seconds, seed), strict=True):
            wavfile.write(folder / part / f"ht1-{name}.wav", RATE, sound)
    (folder / "Results").mkdir()
    accept_verbose()
    places = ["-cl", str((sources / "Configs").resolve()), "-dl", str(folder), "-sloc", str(folder / "Results")]
    return [str(sources / "dist_model_recnet.py"), "-l", config, *places, "--epochs", "4"]


def accept_verbose() -> None:
    """torch has no ``verbose`` of schedules any more, which the script asks for."""
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau
    made = schedule.__init__

    @functools.wraps(made)
    def accepting(self: Any, *args: Any, verbose: bool = False, **kwargs: Any) -> None:
        made(self, *args, **kwargs)

    schedule.__init__ = accepting


def program(config: str, network: str) -> Program:
    return Program(
        title=f"guitar amplifier, {network}",
        repository="Alec-Wright/Automated-GuitarAmpModelling",
        commit="e314638, its CoreAudioML at bad9469",
        packages=("scipy",),
        differs="4 epochs of 2,000, 25 s of synthetic sound in its form; no `verbose=` of a schedule: torch has dropped it",
        command=functools.partial(command, config),
    )


GRU, LSTM = program("RNN2", "GRU 16"), program("RNN3", "LSTM 32")
