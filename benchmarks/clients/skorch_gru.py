"""skorch's NeuralNetClassifier around a GRU: which of two waves a noisy series follows, as in its tutorials; one JSON line."""

import argparse
import json
import time

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn
from variants import VARIANTS, apply

STEPS, HIDDEN = 100, 64


class Classifier(nn.Module):
    """The last output of a GRU, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(4, HIDDEN, 2, batch_first=True), nn.Linear(HIDDEN, 2)

    def forward(self, xs):
        return self.head(self.rnn(xs)[0][:, -1]).softmax(-1)


def data(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows, STEPS, 4) waves of one of two periods in noise, and which."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(2, size=rows)
    t = np.arange(STEPS)[None, :, None] / (9 + 4 * labels[:, None, None]) + draw.uniform(size=(rows, 1, 4))
    return (np.sin(2 * np.pi * t) + draw.normal(size=t.shape)).astype(np.float32), labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)
    net = NeuralNetClassifier(
        Classifier, max_epochs=chosen.epochs, lr=1e-3, batch_size=32, optimizer=torch.optim.Adam, train_split=None, verbose=0
    ).initialize()
    apply(chosen.variant, net.module_)
    xs, labels = data(chosen.rows, chosen.seed)
    start, busy = time.perf_counter(), time.process_time()
    net.partial_fit(xs, labels)
    took = {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - busy}
    print(json.dumps({"losses": [float(loss) for loss in net.history[:, "train_loss"]], **took}))


if __name__ == "__main__":
    main()
