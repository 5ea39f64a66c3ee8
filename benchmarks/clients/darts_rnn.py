"""darts' RNNModel (LSTM) on an hourly series with a day and a week in it; one training, one JSON line.

darts makes the network inside ``fit``, from the first sample. A callback of Lightning meets it before the first step, and gives it to
``throughtime.accelerate``; the optimiser goes on with the parameters that it has.
"""

import argparse
import json
import logging
import time
import warnings

import numpy as np
import pandas
import torch
from darts import TimeSeries
from darts.models import RNNModel
from pytorch_lightning import Callback
from variants import VARIANTS, apply


class Losses(Callback):
    """The mean loss of every epoch."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.losses.append(float(trainer.callback_metrics["train_loss"]))


class BeforeTraining(Callback):
    """Meet the network when it is made."""

    def __init__(self, variant: str) -> None:
        self.variant = variant

    def on_fit_start(self, trainer, pl_module) -> None:
        apply(self.variant, pl_module)


def series(hours: int, seed: int) -> TimeSeries:
    """A load curve: daily and weekly waves, a trend, noise."""
    t, noise = np.arange(hours), np.random.default_rng(seed).normal(size=hours)
    values = 0.5 + 0.2 * np.sin(2 * np.pi * t / 24) + 0.1 * np.sin(2 * np.pi * t / 168) + 0.1 * t / hours + 0.02 * noise
    return TimeSeries.from_times_and_values(pandas.date_range("2020-01-01", periods=hours, freq="h"), values.astype(np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--hours", type=int, default=2_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    losses = Losses()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    model = RNNModel(
        input_chunk_length=48,
        training_length=96,
        model="LSTM",
        hidden_dim=64,
        n_rnn_layers=2,
        batch_size=32,
        n_epochs=chosen.epochs,
        random_state=chosen.seed,
        pl_trainer_kwargs={"accelerator": "cpu", "callbacks": [losses, BeforeTraining(chosen.variant)], **quiet},
    )
    data = series(chosen.hours, chosen.seed)
    start, busy = time.perf_counter(), time.process_time()
    model.fit(data)
    took = {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - busy}
    print(json.dumps({"losses": losses.losses, **took}))


if __name__ == "__main__":
    main()
