"""Files and words that mean harm, through every verb: each must end in a sentence and status 0 or 2, and within ten seconds.

A small run of every task is trained. Then one of its files, or of the data files, is spoilt (bytes changed, cut, repeated; numbers, names
and shapes of its JSON, safetensors header, CSV, Parquet or arrays replaced, with checksums that fit), or flags get words that mean nothing,
and a verb is called on it. Failures: a traceback, another status, more than ten seconds, a word about memory that ran out (a size was
believed before it was checked), a file outside of the folder, a crash. A failure can be repeated by its number alone.

    python benchmarks/hostile.py [--examples 10000] [--only NUMBER] [--json FILE]
"""

import argparse
import contextlib
import faulthandler
import io
import json
import math
import os
import random
import re
import resource
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from throughtime.cli import _verbs, main as throughtime
from throughtime.cli._app import VERBS
from throughtime.cli._flags import flag_names
from throughtime.training._files import read_tensors, write_tensors

SECONDS = 10
MEMORY = 8 * 2**30  # address space of a worker beyond what torch's libraries take
SMALL = "--hidden 5 --batch-size 4 --bptt 8 --steps 4 --threads 1".split()

# ---- What is spoilt


def book(path: Path) -> None:
    words, chance = "the a big old red cat dog owl sat lay on under mat log box".split(), random.Random(0)
    path.write_text("".join(" ".join(chance.choices(words, k=7)) + ".\n" for _ in range(100)))


def table(path: Path) -> None:
    rows = [f"2024-01-{1 + h // 24:02d} {h % 24:02d}:00,{math.sin(h / 4):.4f},{h % 7}" for h in range(240)]
    path.write_text("\n".join(["time,level,day", *rows, ""]))


SERIES = "--target level --features day --time time --horizon 3 --context 8".split()


def arrays(path: Path) -> None:
    chance = np.random.default_rng(0)
    rolls = (chance.random((8, 12, 5)) < 0.3).astype(np.uint8)
    np.savez(path.with_name("rolls.npz"), train=rolls[:6], valid=rolls[6:7], test=rolls[7:])
    np.savez(path.with_name("labelled.npz"), x=chance.standard_normal((20, 9, 3)), y=np.arange(20) % 3, lengths=np.full(20, 9))
    rows = [f"{i},{t},{chance.standard_normal():.3f},{'abc'[i % 3]}" for i in range(15) for t in range(6)]
    path.with_name("labelled.csv").write_text("\n".join(["id,t,x,label", *rows, ""]))


def documents(path: Path) -> None:
    path.write_text("".join(json.dumps({"text": f"the {n} cats and the {n} dogs sat on the mat"}) + "\n" for n in range(60)))


class Home:
    """The whole files and runs, each made once; ``fresh`` gives a copy."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir(parents=True)
        book(place / "book.txt")
        table(place / "table.csv")
        arrays(place / "rolls.npz")
        documents(place / "lines.jsonl")
        with contextlib.chdir(place):
            import polars

            polars.read_csv("table.csv").write_parquet("table.parquet")
            quietly("train", "text", "book.txt", "--out", "text", *SMALL)
            quietly("train", "text", "book.txt", "--out", "words", "--level", "word", *SMALL)
            quietly("train", "text", "book.txt", "--out", "pieces", "--level", "bpe", "--vocab-size", "270", *SMALL)
            quietly("train", "text", "lines.jsonl", "--out", "lines", *SMALL)
            quietly("train", "series", "table.csv", "--out", "series", *SERIES, *SMALL)
            quietly("train", "frames", "rolls.npz", "--out", "frames", *SMALL)
            quietly("train", "labels", "labelled.npz", "--out", "labels", *SMALL)

    def fresh(self, place: Path) -> None:
        shutil.copytree(self.place, place)


def quietly(*words: str) -> None:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = throughtime(words)
    if code:
        raise SystemExit(f"throughtime {' '.join(words)} ended with {code}: {output.getvalue()}")


DATA = {
    "book.txt": (
        "train text book.txt --out new",
        "evaluate text --data book.txt",
        "train text book.txt --level bpe --vocab-size 270 --out new",
    ),
    "table.csv": (f"train series table.csv {' '.join(SERIES)} --out new", "forecast series --data table.csv --out f.csv"),
    "lines.jsonl": ("train text lines.jsonl --out new", "evaluate lines --data lines.jsonl"),
    "rolls.npz": ("train frames rolls.npz --out new", "evaluate frames --data rolls.npz", "sample frames --prompt rolls.npz --out s.npy"),
    "labelled.npz": (
        "train labels labelled.npz --out new",
        "predict labels --data labelled.npz --out p.csv",
        "evaluate labels --data labelled.npz",
    ),
    "labelled.csv": ("train labels labelled.csv --time t --out new",),
    "table.parquet": (f"train series table.parquet {' '.join(SERIES)} --out new",),
}
RUN_VERBS = {
    "text": ("evaluate {}", "sample {} --length 9", "export {} --out m.onnx", "flow {}", "runs .", "train text --resume --out {} --steps 6",
             "train text book.txt --from {} --out new --steps 1", "train text book.txt --config {}/config.json --out new --steps 1"),
    "frames": ("evaluate {}", "sample {} --out s.npz", "flow {}", "runs .", "train frames --resume --out {} --steps 6"),
    "labels": ("evaluate {}", "predict {} --out p.csv", "flow {}", "runs .", "train labels --resume --out {} --steps 6"),
    "series": ("evaluate {}", "forecast {} --out f.csv", "flow {}", "runs .", "train series --resume --out {} --steps 6"),
}  # fmt: skip
RUNS = {"text": "text", "words": "text", "pieces": "text", "lines": "text", "series": "series", "frames": "frames", "labels": "labels"}

# ---- How


def odd_number(rng: random.Random) -> object:
    return rng.choice([-1, 0, 1, 2, 7, 2**31, 2**40, 2**63, 10**30, -(2**63), 0.5, 1e308, -1e-320, float("nan"), float("inf")])


def odd_value(rng: random.Random, depth: int = 0) -> object:
    if depth < 3 and rng.random() < 0.2:
        return rng.choice([[odd_value(rng, depth + 1)] * rng.choice([0, 1, 3]), {odd_word(rng): odd_value(rng, depth + 1)}])
    return rng.choice([None, True, False, odd_number(rng), odd_number(rng), odd_word(rng), [], {}, [[[[[[]]]]]], "a" * 10_000])


def odd_word(rng: random.Random) -> str:
    words = ["", " ", "\0", "../../escaped", "/etc/passwd", "nan", "inf", "1e999", "-0", "\uff10", "\u202e", "\ud7ff", "é" * 50]
    words += ["__class__", "os:system"]
    return rng.choice([*words, "%s%n", "{0}", "lstm", "zzz", "".join(rng.choices(string.printable, k=rng.randint(1, 30)))])


def spoilt_bytes(content: bytes, rng: random.Random) -> bytes:
    at, n = rng.randrange(len(content) + 1), rng.choice([1, 2, 8, 100])
    match rng.randrange(7):
        case 0:
            return content[:at]
        case 1:
            return content[:at] + rng.randbytes(n) + content[at + n :]
        case 2:
            return content[:at] + rng.randbytes(n) + content[at:]
        case 3:
            return content[:at] + content[at + n :]
        case 4:
            return content + content[:at]
        case 5:
            return b"" if rng.random() < 0.3 else bytes([rng.choice([0, 0xFF])]) * len(content)
        case _:
            marks = [b"\xef\xbb\xbf", b"\xff\xfe", b"\0" * 9, b'"', b"\r", b"\x1f\x8b\x08", b"PK\3\4", b"PAR1"]
            return content[:at] + rng.choice(marks) + content[at:]


def spoilt_tree(tree: object, rng: random.Random) -> object:
    """JSON with a value, a name or a branch that is another."""
    if isinstance(tree, dict) and tree and rng.random() < 0.9:
        name = rng.choice(list(tree))
        match rng.randrange(8):
            case 0:
                return {k: v for k, v in tree.items() if k != name}
            case 1:
                return tree | {odd_word(rng): odd_value(rng)}
            case _:
                return tree | {name: spoilt_tree(tree[name], rng)}
    if isinstance(tree, list) and tree and rng.random() < 0.7:
        at = rng.randrange(len(tree))
        return [*tree[:at], spoilt_tree(tree[at], rng), *tree[at + 1 :]] if rng.random() < 0.8 else tree[:at]
    return odd_value(rng)


def spoilt_json(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.05:
        return b"[" * 200_000
    return json.dumps(spoilt_tree(json.loads(content), rng)).encode("utf-8", "surrogatepass")


def spoilt_lines(content: bytes, rng: random.Random) -> bytes:
    """JSON lines, some of which say something else."""
    return b"\n".join(spoilt_json(line, rng) if rng.random() < 0.2 else line for line in content.splitlines())


def spoilt_header(content: bytes, rng: random.Random) -> bytes:
    """A safetensors file whose header says something else, with a length that fits it, or not."""
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(spoilt_tree(json.loads(content[8 : 8 + length]), rng)).encode("utf-8", "surrogatepass")
    told = rng.choice([len(header)] * 9 + [2**62])
    return told.to_bytes(8, "little") + header + content[8 + length :]


def spoilt_tensors(path: Path, rng: random.Random) -> None:
    """Another tensor, or another word, under a checksum that fits."""
    tensors, about = read_tensors(path)
    name = rng.choice(sorted(tensors))
    t = tensors[name]
    other = [
        torch.zeros(0),
        torch.zeros(1 + rng.randrange(50), dtype=t.dtype),
        t.to(torch.float16),
        t.to(torch.int64),
        t[None],
        t.flatten(),
    ]
    if t.is_floating_point():
        other += [torch.full_like(t, float("nan")), torch.full_like(t, 1e38), torch.full_like(t, -1e38)]
    match rng.randrange(4):
        case 0:
            about = spoilt_tree(about, rng)
        case 1:
            del tensors[name]
        case 2:
            tensors[odd_word(rng).replace("\0", "") or "x"] = rng.choice(other)
        case _:
            tensors[name] = rng.choice(other)
    write_tensors(path, tensors, about)


def spoilt_cells(content: bytes, rng: random.Random) -> bytes:
    """A table with cells, lines or columns that are others."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    for _ in range(rng.choice([1, 1, 3, 100])):
        row = rng.choice(rows) if rng.random() < 0.8 else rows[0]
        if row:
            others = [str(odd_number(rng)), odd_word(rng), "", "NA", '"', "1,2", "2024-13-45", "1e400", "a" * 9999]
            row[rng.randrange(len(row))] = rng.choice(others)
    match rng.randrange(8):
        case 0:
            rng.shuffle(rows)
        case 1:
            rows += rows[: rng.randrange(len(rows))]
        case 2:
            rows = rows[: rng.randrange(4)]
        case 3:
            rows = [row[:-1] for row in rows]
        case 4:
            rows = [[*row, *row] for row in rows]
    return "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass")


def spoilt(path: Path, rng: random.Random) -> None:
    """Spoil a file in its own way, or byte by byte."""
    content = path.read_bytes()
    ways: list[Callable[[bytes, random.Random], bytes]] = [spoilt_bytes]
    if path.suffix == ".json":
        ways += [spoilt_json] * 4
    if path.suffix == ".csv":
        ways += [spoilt_cells] * 4
    if path.suffix == ".jsonl":
        ways += [spoilt_lines] * 2
    if path.suffix == ".safetensors":
        ways += [spoilt_header] * 2
        if rng.random() < 0.5:
            return spoilt_tensors(path, rng)
    path.write_bytes(rng.choice(ways)(content, rng))
    return None


LARGE = "hidden layers batch-size bptt steps epochs minutes length vocab-size embedding horizon context count lags threads"


def odd_flags(rng: random.Random) -> list[str]:
    """A verb with words that its flags do not expect. Sizes stay small: a large one that is asked for is no fault."""
    verb = rng.choice(sorted(VERBS))
    names = sorted(set(flag_names(getattr(_verbs, VERBS[verb].flags)).values()))
    large = [f"--{name}" for name in LARGE.split()]
    words = [
        *verb,
        *rng.choice(
            [
                [],
                ["book.txt"],
                ["table.csv"],
                ["rolls.npz"],
                ["text"],
                ["series"],
                ["frames"],
                ["labels"],
                ["."],
                [odd_word(rng)],
                ["/dev/null"],
                ["/"],
            ]
        ),
    ]
    if verb == ("demo",) or verb[0] == "completion":
        words = [*verb, "--zzz"]
    for _ in range(rng.randrange(1, 4)):
        name = rng.choice(names) if names else "--help"
        value = rng.choice(["", "-1", "0", "nan", "-inf", "1e-400", "x", "1,2", "1.5", "True"]) if name in large else str(odd_value(rng))
        words += [name, value] if rng.random() < 0.8 else [f"{name}={value}"]
    return [*words, *(["--steps", "1"] if verb[0] == "train" else [])]


def example(home: Home, number: int, place: Path) -> list[str]:
    """The words of one example; its files are spoilt already."""
    rng = random.Random(number)
    home.fresh(place)
    kind = rng.random()
    if kind < 0.2:
        return [w.replace("\0", "") for w in odd_flags(rng)]
    if kind < 0.5:
        name = rng.choice(sorted(DATA))
        spoilt(place / name, rng)
        words = rng.choice(DATA[name]).split()
        return words + (SMALL if words[0] == "train" else [])
    run = rng.choice(sorted(RUNS))
    spoilt(rng.choice(sorted(p for p in (place / run).rglob("*") if p.is_file())), rng)
    return rng.choice(RUN_VERBS[RUNS[run]]).format(run).split()


# ---- Running it


class TooLong(BaseException):
    pass


def _alarm(*_: object) -> None:
    raise TooLong


def outcome(words: list[str], place: Path) -> tuple[str, str]:
    """What came of a verb, in a word, and what it printed."""
    output, before = io.StringIO(), set(place.parent.iterdir())
    signal.signal(signal.SIGALRM, _alarm)
    threads = torch.get_num_threads()
    with contextlib.chdir(place), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        signal.setitimer(signal.ITIMER_REAL, 60 * SECONDS)
        started = time.process_time()
        try:
            code: object = throughtime(words)
        except TooLong:
            code = "hang"
        except SystemExit as error:
            code = error.code
        except BaseException:
            output.write(traceback.format_exc())
            code = "traceback"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    torch.set_num_threads(threads)
    said = output.getvalue()
    if code in ("hang", "traceback"):
        return str(code), said
    if "Traceback" in said:
        return "traceback", said
    if time.process_time() - started > SECONDS:
        return "hang", said
    if set(place.parent.iterdir()) - before:
        return "escaped", said
    if "not enough memory" in said:
        return "memory", said
    if code not in (0, 1, 2):
        return f"status {code}", said
    if code == 1 and not re.search(r"guess|diverge", said):
        return "status 1", said
    if code == 2 and not said.strip():
        return "silence", said
    return "sentence" if code == 2 else "done", said


def work(template: Path, first: int, last: int) -> None:
    """A worker: one line of JSON for each example."""
    faulthandler.enable()
    os.environ.setdefault("COLUMNS", "200")
    torch.set_num_threads(1)
    home = Home.__new__(Home)
    home.place = template
    with tempfile.TemporaryDirectory() as place:
        for number in range(first, last):
            here = Path(place) / "inner" / f"example{number}"
            here.parent.mkdir(exist_ok=True)
            try:
                words = example(home, number, here)
            except Exception:  # the example itself could not be made
                print(json.dumps([number, "unmade", [], traceback.format_exc()[-400:]]), flush=True)
                shutil.rmtree(here, ignore_errors=True)
                continue
            print(json.dumps([number, "began", words, ""]), flush=True)
            word, said = outcome(words, here)
            print(json.dumps([number, word, words, said[-3000:]]), flush=True)
            shutil.rmtree(here.parent, ignore_errors=True)


def lowered() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(template: Path, first: int, last: int) -> list[list]:
    """Every example from first to last, in a process that is begun again after a crash."""
    found: list[list] = []
    while first < last:
        words = [sys.executable, __file__, "--work", str(template), str(first), str(last)]
        done = subprocess.run(words, capture_output=True, text=True, preexec_fn=lowered, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        ended = [line for line in lines if line[1] != "began"]
        found += ended
        first = ended[-1][0] + 1 if ended else first
        if done.returncode and first < last:
            began = lines[-1] if lines else [first, "", [], ""]
            found.append([began[0], "crash", began[2], done.stderr[-3000:]])
            first = began[0] + 1
    return found


GOOD = ("sentence", "done")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--only", type=int, help="one example, shown whole")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.work:
        work(Path(chosen.work[0]), int(chosen.work[1]), int(chosen.work[2]))
        return
    console, counts, bad = Console(), Counter(), []
    with tempfile.TemporaryDirectory() as place:
        home = Home(Path(place) / "home")
        chunks = [(n, min(n + 50, chosen.examples)) for n in range(0, chosen.examples, 50)]
        if chosen.only is not None:
            chunks = [(chosen.only, chosen.only + 1)]
        for first, last in track(chunks, "hostile", console=console):
            for number, word, words, said in run(home.place, first, last):
                counts[word] += 1
                if word not in GOOD or chosen.only is not None:
                    bad.append(number)
                    console.print(f"[bold]{number}: {word}[/]: throughtime {' '.join(words)!r}", markup=True)
                    console.print(said[-1500:], markup=False)
    console.print(f"{sum(counts.values())} examples: " + ", ".join(f"{n} {word}" for word, n in counts.most_common()))
    if chosen.json:
        found = {"benchmark": "hostile", "examples": chosen.examples, "outcomes": counts, "failures": bad}
        chosen.json.write_text(json.dumps(found, indent=1))
    if set(counts) - set(GOOD):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
