"""The tables of speed in README.md and the documents, from the committed results: `make readme-tables`.

A document has a table between ``<!-- table: NAME -->`` and ``<!-- end of table -->``. What stands there is replaced by what the function of
that name makes of benchmarks/results; a test fails where they differ. The text beside a table names the script that wrote its results.
"""

import json
import math
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
sys.path.insert(0, str(ROOT / "benchmarks" / "papers"))
from _shown import shown  # noqa: E402  a script's neighbour is no package

MARKED = re.compile(r"(?<=<!-- table: )(\w+) -->\n.*?(?=<!-- end of table -->)", re.DOTALL)
NAMES = {"rnn": "simple network", "simple": "simple network", "gru": "GRU", "lstm": "LSTM"}


def results(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)) + "\n"


def spread(values: Sequence[float], unit: str = "") -> str:
    """Median and range."""
    return f"{statistics.median(values):.1f}{unit} ({min(values):.1f} – {max(values):.1f})"


def worst_and_mean(ratios: Sequence[float]) -> str:
    """The least of some ratios, and their geometric mean."""
    return f"{min(ratios):.1f} – {math.exp(statistics.fmean(map(math.log, ratios))):.1f}"


def race() -> str:
    """Seconds of training to a validation loss, a row a target; a racer that missed it in some round says so."""
    rows = results("race-zen4-2core")["rows"]
    racers = list(dict.fromkeys(row["racer"] for row in rows))
    targets = list(dict.fromkeys(row["target"] for row in rows))
    told = {(row["target"], row["racer"]): _raced(row["results"]) for row in rows}
    names = {"throughtime": "throughtime", "torch": "PyTorch"}
    head = ["validation loss, nats a character", *(names.get(racer, racer) for racer in racers)]
    return table(head, ([f"{target}", *(told.get((target, racer), "–") for racer in racers)] for target in targets))


def _raced(rounds: Sequence[Any]) -> str:
    reached = [result["seconds"] for result in rounds if result["reached"]]
    if not reached:
        best = min(rounds, key=lambda result: result["nats"])
        return f"not reached: {best['nats']:.3f} after {best['seconds']:.0f} s"
    missed = f", {len(rounds) - len(reached)} of {len(rounds)} rounds missed it" if len(reached) < len(rounds) else ""
    return (f"{reached[0]:.0f} s" if len(reached) == 1 else spread(reached, " s")) + missed


def layers() -> str:
    """Forward and backward of one layer against torch.nn and JAX, over all sizes and one and two threads."""
    rows = results("zen4-2core")["rows"]

    def of(cell: str, ours: str, peer: str) -> str:
        seconds = [row["seconds"] for row in rows if row["cell"] == cell]
        return worst_and_mean([s[peer]["median"] / s[ours]["median"] for s in seconds if peer in s])

    head = ["times as fast, worst – mean of nine sizes", "as a layer, `torch.nn`", "on arrays, `torch.nn`", "on arrays, JAX"]
    columns = [("layer", "torch"), ("kernel", "torch"), ("kernel", "jax")]
    return table(head, ([NAMES[cell], *(of(cell, *column) for column in columns)] for cell in ("simple", "gru", "lstm")))


def calls() -> str:
    """Short calls against torch.nn on one thread."""
    rows = [row for row in results("calls-zen4-2core")["calls"] if row["threads"] == 1]
    told = {"grad": "forward and backward", "none": "under `no_grad`", "inference": "under `inference_mode`"}
    modes = [mode for mode in told if any(row["mode"] == mode for row in rows)]
    head = ["times as fast, worst – mean of 96 points", *(told[mode] for mode in modes)]
    ratios = {
        (cell, mode): [row["ratio"] for row in rows if (row["cell"], row["mode"]) == (cell, mode)] for cell in NAMES for mode in modes
    }
    return table(head, ([NAMES[cell], *(worst_and_mean(ratios[cell, mode]) for mode in modes)] for cell in ("rnn", "gru", "lstm")))


def stream() -> str:
    """Microseconds of one step of one sequence with 64 units."""
    ways = {
        "torch in": "`tt.Stream`, tensors",
        "numpy in": "`tt.Stream`, arrays",
        "onnx": "onnxruntime",
        "cell": "torch's cell",
        "torch": "torch's layer",
    }
    rows = [row for row in results("stream-zen4-2core")["steps"] if (row["B"], row["H"], row["threads"]) == (1, 64, 1)]
    return table(["µs a step", *ways.values()], ([NAMES[row["cell"]], *(f"{row['us'][way][0]:.1f}" for way in ways)] for row in rows))


def training() -> str:
    """Symbols a second of a character model, against the same model and loop in PyTorch."""
    head = ["", "threads", "throughtime", "PyTorch", "times as fast", "loss after 100 steps, both"]
    return table(head, map(_trained, results("training-zen4-2core")))


def _trained(row: Any) -> list[str]:
    speed = [f"{row['tokens_per_second'][racer] / 1000:.0f}k" for racer in ("throughtime", "torch")]
    losses = sorted({f"{loss:.3f}" for loss in row["valid_nats"].values()})
    return [f"{NAMES[row['cell']]}, {row['hidden']} units", str(row["threads"]), *speed, f"{row['ratio']:.1f}", " and ".join(losses)]


def clients() -> str:
    """Programs of others, by their authors' commands, in short."""
    head = ["program", "what was changed", "PyTorch", "throughtime", "times as fast", "losses part by", "PyTorch nudged parts by"]
    return table(head, map(_client, results("clients-zen4-2core")["clients"]))


def _client(row: Any) -> list[str]:
    changed = {"throughtime": "the layers", "integration": "the layers, and the loop over steps"}[row["by"]]
    seconds = [f"{statistics.median(row['seconds'][whose]):.1f} s" for whose in ("torch", "ours")]
    parting = [f"{row[which]:.0e}" if which in row else "–" for which in ("losses_part_by", "nudged_part_by")]
    return [row["client"], changed, *seconds, _ratios(row["seconds"]), *parting]


def clients_in_full() -> str:
    """The same, with what was changed, what is other than the authors' command, and the processor's time."""
    head = ["program", "what was changed", "what of its command is other than its authors'", "rounds", "PyTorch", "throughtime"]
    head += ["times as fast", "of processor time", "losses", "part by", "PyTorch nudged parts by"]
    return table(head, map(_client_in_full, results("clients-zen4-2core")["clients"]))


def _client_in_full(row: Any) -> list[str]:
    name, _, *seconds, ratio, parting, nudged = _client(row)
    counts = str(row["rounds"]), str(row["losses"])
    ratios = ratio, _ratios(row["processor_seconds"])
    return [name, row["changed"], row["differs"], counts[0], *seconds, *ratios, counts[1], parting, nudged]


def _ratios(seconds: Any) -> str:
    """torch's time over ours, round by round: median and range."""
    found = [theirs / mine for theirs, mine in zip(seconds["torch"], seconds["ours"], strict=True)]
    return f"{statistics.median(found):.2f}" + (f" ({min(found):.2f} – {max(found):.2f})" if len(found) > 1 else "")


def costs() -> str:
    """What gradient methods cost and miss, beside full BPTT of the same network."""
    rows = results("gradients-zen4-1core")["rows"]
    full = {row["hidden"]: row for row in rows if row["method"] == "full"}
    head = ["method", "units", "time, of `full`", "memory, of `full`", "bias", "variance of a draw"]
    return table(head, (_method(row, full[row["hidden"]]) for row in rows))


def _method(row: Any, full: Any) -> list[str]:
    time, memory = row["ms"]["median"] / full["ms"]["median"], row["peak_bytes"] / full["peak_bytes"]
    chance = f" ± {row['noise']:.1g}" if row["noise"] else ""
    bias = "0" if row["agrees"] == "exactly" else f"{row['bias']:.2g}{chance}"
    variance = f"{row['variance']:.2g}" if row["variance"] else ""
    return [f"`{row['method']}`", str(row["hidden"]), f"{time:.2g}" if time < 10 else f"{time:,.0f}", f"{memory:.2g}", bias, variance]


def paper(name: str) -> str:
    """A table of benchmarks/papers."""
    found = results(f"papers-{name.replace('_', '-')}")
    return shown(found["rows"], found["measure"], found["digits"]) + "\n"


PAPERS = [path.stem.removeprefix("papers-").replace("-", "_") for path in RESULTS.glob("papers-*.json")]
MADE = (race, layers, calls, stream, training, clients, clients_in_full, costs)
TABLES: dict[str, Callable[[], str]] = {make.__name__: make for make in MADE} | {name: partial(paper, name) for name in PAPERS}


def written(text: str) -> str:
    """A document with its tables made anew."""
    return MARKED.sub(lambda found: f"{found[1]} -->\n{TABLES[found[1]]()}", text)


def documents() -> list[Path]:
    places = (ROOT / "README.md", ROOT / "benchmarks" / "clients" / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    return [place for place in places if MARKED.search(place.read_text("utf-8"))]


if __name__ == "__main__":
    for document in documents():
        document.write_text(written(document.read_text("utf-8")), "utf-8")
        print(document.relative_to(ROOT))
