"""Same seed, same threads, same machine: the same bytes of every file and the same words, whatever the verb; times aside."""

import itertools
import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from _shell import TEXT

from throughtime.cli import main
from throughtime.cli._app import VERBS
from throughtime.training._files import read_tensors

SMALL = "--hidden 5 --batch-size 4 --bptt 8 --steps 4 --eval-every 2 --initial random --watch-flow 2"
WRITING = f"{SMALL} --dropout .2 --sample-every 2"
SERIES = "--target level --features day --time time --horizon 2 --context 6"

A_NEW_PROCESS = 67280421310721  # what torch's generator begins with

TIMED = ("events.", "gradients.png", "bench.png")  # TensorBoard's log, named by the clock; and pictures of times

# What is done in a folder, verb after verb.
TEXTS = f"""
train text book.txt --out run {WRITING}
train text book.txt --out run --resume --steps 6
train text book.txt --from run --out child --steps 2
train text book.txt --seed 1,2 --out seeds {WRITING}
sample run --length 30 --seed 1
sample run --length 30 --seed 1 --temperature .5 --prompt the
evaluate run --json
evaluate run --data book.txt
flow run --html flow.html
flow run --json
compare-gradients run --methods full uoro truncated:k1=4,k2=8 --json
export run --to run.onnx
runs .
"""
DRAWN = "".join(
    f"train text book.txt --out {i} {SMALL} --gradient {method}\n"
    for i, method in enumerate(("uoro", "kfrtrl", "random-truncated:mean_length=4"))
)
OTHERS = f"""
train series table.csv {SERIES} --out run {SMALL} --dropout .2
forecast run --out forecast.csv
forecast run --out next.csv
evaluate run
flow run
export run --to run.onnx
train frames rolls.npz --out frames {SMALL}
sample frames --seed 1 --out sample.npy
evaluate frames
flow frames
train labels labelled.npz --out labels {SMALL.removesuffix("--watch-flow 2")} --dropout .2
predict labels --data labelled.npz --out predicted.csv
evaluate labels
"""

# What is looked up, and what is measured: of bench, everything but the times (``what_is_measured``).
LOOKED_UP = """
info
data
cache
cache --clear
completion bash
completion zsh
completion fish
bench --only steps --seconds .05 --threads 1 --json
"""
DEMO = "demo --hidden 8 --minutes .02 --out run"  # under a clock that ticks alike: a minute has as many steps as the machine takes in it


def data() -> None:
    rng = np.random.default_rng(0)
    Path("book.txt").write_text(TEXT)
    hours = [f"2024-01-{1 + h // 24:02d} {h % 24:02d}:00,{np.sin(h / 4):.4f},{h % 7}" for h in range(120)]
    Path("table.csv").write_text("\n".join(["time,level,day", *hours, ""]))
    rolls = (rng.random((8, 12, 5)) < 0.3).astype(np.uint8)
    np.savez("rolls.npz", train=rolls[:6], valid=rolls[6:7], test=rolls[7:])
    np.savez("labelled.npz", x=rng.standard_normal((20, 9, 3)), y=np.arange(20) % 3, lengths=np.full(20, 9))


def without_times(said: str) -> str:
    """Durations, speeds, and how far long work has come, are other ones each time; nothing else may be."""
    if said.startswith('{"machine"'):
        said = what_is_measured(said)
    said = re.sub(r"^.*: \d+%\n", "", said, flags=re.MULTILINE)
    said = re.sub(r"^reading .*demo.txt$", "reading demo.txt", said, flags=re.MULTILINE)  # a temporary folder's name is drawn
    said = re.sub(r"[\d.,]+[kM]? ?(tokens|steps|frames|labels|ms|s|µs|MB|min)\b(/s)?", "TIME", said)
    said = re.sub(r'"(\w*seconds|peak_bytes)": [\d.e+-]+', "TIME", said)  # what the allocator has kept varies, too
    return re.sub(r"\d+:\d\d left|[─━╺╸]+", "TIME", said)


def what_is_measured(said: str) -> str:
    """Of bench's JSON: the machine, the questions, their cases, units and contestants. The numbers are times, and the picture shows them."""
    found = json.loads(said)
    rows = [{**row, "found": sorted(row["found"])} for row in found.pop("rows")]
    return json.dumps({**found, "rows": rows})


def without_seconds(tree: object) -> object:
    """What is told in JSON, at any depth; and without the path and the date of what was read."""
    return {k: without_seconds(v) for k, v in tree.items() if "second" not in k and k != "source"} if isinstance(tree, dict) else tree


def known(path: Path) -> object:
    """A file's content, times aside."""
    if path.suffix == ".jsonl":
        return [without_seconds(json.loads(line)) for line in path.read_text().splitlines()]
    if path.name == "series.json":
        return without_seconds(json.loads(path.read_text()))
    if path.name.startswith("state."):
        tensors, about = read_tensors(path)
        return {k: t.numpy().tobytes() for k, t in tensors.items()}, without_seconds(about)
    if path.name == "config.json":
        return re.sub(rb'"[^"]*/demo.txt"', b'"demo.txt"', path.read_bytes())  # in a temporary folder, whose name is drawn
    return path.read_bytes()


class Ticks:
    """An eighth of a second from one look at the clock to the next: every difference is exact."""

    looks = itertools.count()

    @classmethod
    def monotonic(cls) -> float:
        return next(cls.looks) / 8


def done(folder: Path, commands: str, monkeypatch, capfd) -> tuple[list[str], dict[str, object]]:
    folder.mkdir()
    monkeypatch.chdir(folder)
    data()
    said = []
    for words in commands.strip().splitlines():
        torch.manual_seed(len(said) + len(str(folder)) if "--seed" in words else A_NEW_PROCESS)
        assert main([*shlex.split(words), *(["--threads", "1"] if words.startswith("train") else [])]) == 0, capfd.readouterr().err
        said.append(without_times(capfd.readouterr().out))
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(TIMED))
    return said, {str(p.relative_to(folder)): known(p) for p in files}


@pytest.mark.parametrize(
    "commands",
    [
        pytest.param(TEXTS.strip().splitlines()[0] + "\nsample run --length 30 --seed 1\nevaluate run --json", id="quick"),
        pytest.param(TEXTS, id="text", marks=pytest.mark.slow),
        pytest.param(DRAWN, id="drawn at random", marks=pytest.mark.slow),
        pytest.param(OTHERS, id="other tasks", marks=pytest.mark.slow),
        pytest.param(LOOKED_UP, id="looked up", marks=pytest.mark.slow),
        pytest.param(DEMO, id="demo", marks=pytest.mark.slow),
    ],
)
def test_twice_the_same(tmp_path, monkeypatch, capfd, commands):
    """In one process, whose generators are somewhere else the second time."""
    torch.set_default_dtype(torch.float32)
    for variable in ("THROUGHTIME_DATA", "THROUGHTIME_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / variable))  # one place for both
    if commands == DEMO:
        monkeypatch.setattr("throughtime.training._loop.time", Ticks)
    (said, files), (again, other) = (done(tmp_path / name, commands, monkeypatch, capfd) for name in ("a", "another"))
    for command, one, two in zip(commands.strip().splitlines(), said, again, strict=True):
        assert one == two, command
    assert files.keys() == other.keys()
    assert [name for name in files if files[name] != other[name]] == []


def test_no_verb_is_left_out():
    typed = [tuple(words.split()) for some in (TEXTS, OTHERS, LOOKED_UP, DEMO) for words in some.strip().splitlines()]
    assert [verb for verb in VERBS if not any(words[: len(verb)] == verb for words in typed)] == []


def test_another_seed_is_another_run(tmp_path, monkeypatch, capfd):
    """What the test above would not see, if nothing were drawn."""
    first = TEXTS.strip().splitlines()[0]
    (_, one), (_, two) = (done(tmp_path / s, f"{first} --seed {s}", monkeypatch, capfd) for s in "12")
    assert {os.path.basename(name) for name in one if one[name] != two[name]} >= {"model.safetensors", "state.safetensors", "metrics.jsonl"}
