"""What each gradient method costs and misses: the times of one call beside full BPTT, its memory, and its bias.

    python benchmarks/gradients.py --json benchmarks/results/gradients-MACHINE.json

A character model (GRU, 64 units, 300 steps of training on the language reference that Python carries), 64 steps of 16 streams of text,
float32, one thread; RTRL, whose arithmetic grows with H⁴, with 16 units, beside full BPTT of these. The methods take turns; medians and
quartiles of nine rounds. Memory and bias are those of ``gradients.compare``.
"""

import argparse
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from pydoc_data.topics import topics

import torch

import throughtime as tt
from throughtime.bench._contest import contest, timed
from throughtime.training import method_of

EXACT_FORWARD = ("full", "rtrl", "block-rtrl:block=32")
METHODS = (
    "full",
    "checkpointed:every=8",
    "truncated:k1=16",
    "truncated:k1=16,k2=32",
    "truncated:k1=1,k2=32",
    "sliding:lags=32",
    "adaptive:tolerance=0.1,max_lags=32",
    "random-truncated:mean_length=16",
    "snap:order=1",
    "uoro",
    "kfrtrl",
    "eprop",
)


def trained(hidden: int, steps: int = 300) -> tuple[tt.LanguageModel, tt.Batch]:
    torch.manual_seed(0)
    text = "".join(topics.values())
    vocabulary = tt.data.Chars.count([text])
    stream = tt.TokenStream(vocabulary.encode(text), batch_size=16, window=64)
    model, carry = tt.LanguageModel(vocabulary.size, cell=tt.cells.GRU(), hidden_size=hidden), None
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for step in range(steps):
        optimizer.zero_grad()
        _, carry = tt.gradients.TruncatedBPTT(64).accumulate(model, stream.at(step), carry)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model, stream.at(steps)


def measure(hidden: int, specs: Sequence[str], seconds: float) -> Iterator[dict[str, object]]:
    model, batch = trained(hidden)
    methods = {spec: method_of(spec) for spec in specs}
    spreads = contest({spec: timed(lambda m=m: m.accumulate(model, batch)) for spec, m in methods.items()}, seconds, 1000)
    told = ("agrees", "bias", "noise", "variance", "peak_bytes")
    for row in tt.gradients.compare(model, batch, methods):
        yield {"hidden": hidden, "method": row.name, "ms": asdict(spreads[row.name])} | {name: getattr(row, name) for name in told}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15, help="of timing a network, about")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    tt.set_threads(1)
    found = []
    for row in (*measure(64, METHODS, chosen.seconds), *measure(16, EXACT_FORWARD, chosen.seconds)):
        print(row, flush=True)
        found.append(row)
    if chosen.json:
        about = {"machine": platform.machine(), "torch": torch.__version__, "threads": 1}
        chosen.json.write_text(json.dumps(about | {"rows": found}, indent=1) + "\n")
