"""What an installed throughtime must do, in an environment that has nothing else: `make release-check`.

python tools/release_check.py packed     installed from a wheel: the kernels are there
python tools/release_check.py plain      installed without a compiler: the plain loop serves, and says so
"""

import argparse
import logging
import subprocess
import sys
import sysconfig
from pathlib import Path

import torch

import throughtime as tt


def train() -> float:
    """A few steps of a character model; the last loss in nats."""
    torch.manual_seed(0)
    ids = torch.arange(8).repeat(65, 4).view(65, 32) % 8
    model, method = tt.LanguageModel(8, cell=tt.cells.LSTM(), hidden_size=16), tt.gradients.TruncatedBPTT(16, 32)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        loss = method.accumulate(model, tt.Batch(ids[:-1], ids[1:])).loss
        optimizer.step()
    return float(loss)


def said(*words: str) -> str:
    """What the command prints."""
    command = Path(sysconfig.get_path("scripts")) / "throughtime"
    return subprocess.run([command, *words], check=True, capture_output=True, text=True).stdout


def main(expected: str) -> int:
    records: list[logging.LogRecord] = []
    logging.getLogger("throughtime").addHandler(type("Kept", (logging.Handler,), {"emit": lambda _, record: records.append(record)})())
    assert not Path(tt.__file__).is_relative_to(Path(__file__).parents[1] / "src"), "the source is imported, and not what was installed"
    assert tt.__version__ in said("--version"), "the command has another version"
    loss = train()
    assert loss < 0.5, f"training does not learn: {loss} nats, and guessing costs 2.08"
    info = " ".join(said("info").split())
    told = [record.getMessage() for record in records]
    if expected == "packed":
        assert "fast: packed" in info, info
        assert not told, told
    else:
        assert "plain" in info and "C++" in info, info  # noqa: PT018
        assert len(told) == 1 and "plain loop" in told[0], told  # noqa: PT018
    print(f"throughtime {tt.__version__} is {expected}, and trains to {loss:.3f} nats")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("expected", choices=["packed", "plain"])
    sys.exit(main(parser.parse_args().expected))
