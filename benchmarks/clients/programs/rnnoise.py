"""RNNoise's trainer: ``train_rnnoise.py features.f32 output``."""

from pathlib import Path

import numpy as np

from ._program import Program


def command(sources: Path, folder: Path) -> list[str]:
    draw = np.random.default_rng(1)
    features = draw.normal(size=(24 * 2000, 98)).astype(np.float32)
    features[:, 65:] = draw.uniform(size=(len(features), 33))  # gains and voice activity lie in [0, 1]
    features.tofile(folder / "features.f32")
    script = sources / "torch/rnnoise/train_rnnoise.py"
    return [str(script), str(folder / "features.f32"), str(folder), "--batch-size", "8", "--epochs", "1"]


PROGRAM = Program(
    title="rnnoise, three GRU 384, T 2000",
    repository="xiph/rnnoise",
    commit="70f1d25",
    packages=(),
    differs="1 epoch, 8 sequences of 2000 a batch for 128, random features in the form of its own",
    command=command,
)
