"""Break the source one line at a time and see whether the tests notice.

    python tools/mutate.py                         # 120 edits, 30 of them in C++
    python tools/mutate.py --only gradients -j 4   # the edits of files whose path has "gradients" in it
    python tools/mutate.py --list                  # only say what would be edited

Each edit changes one operator, constant, call or slice of a line that computes something. The edits are made from the source and
``--seed`` alone, spread evenly over the files, lines with an equation's number first. Each is tried in a scratch copy of the tree: first
the tests that concern the file, then the rest of the quick suite if none of them failed. An edit that no test notices has *survived*: it is
an equation without a test, or it changes nothing (a tile's size, a shortcut).

mutmut and cosmic-ray make such edits too, but in Python alone; a quarter of the mathematics here is C++, which must be rebuilt for each
edit (of one architecture: the others would take five times as long). They also know nothing of which lines are equations.

Needs the development install, and cmake and ninja on the path for the edits of C++.
"""

import argparse
import json
import os
import queue
import re
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from edits import Edit, candidates


@dataclass(frozen=True)
class Fate:
    """What became of an edit: the test that failed, or "survived", "timed out", "does not compile"."""

    edit: Edit
    by: str
    seconds: float

    @property
    def killed(self) -> bool:
        return self.by not in ("survived", "timed out", "does not compile")


class Scratch:
    """A copy of the tree with an interpreter of its own, which imports the copy and this environment's libraries."""

    def __init__(self, tree: Path, place: Path, kernels: bytes | None = None) -> None:
        self.root, self.python = place, place / ".venv" / "bin" / "python"
        for name in subprocess.run(["git", "ls-files"], cwd=tree, capture_output=True, text=True, check=True).stdout.split("\n"):
            if name and (tree / name).is_file():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(tree / name, place / name)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / ".venv"], check=True)
        site = next((place / ".venv").glob("lib/python*/site-packages"))
        (site / "tree.pth").write_text(f"{place / 'src'}\n{sysconfig.get_path('purelib')}\n")
        self.extension = place / "src" / "throughtime" / f"_kernels{sysconfig.get_config_var('EXT_SUFFIX')}"
        if kernels is not None:
            self.extension.write_bytes(kernels)

    def write(self, edit: Edit, *, undo: bool = False) -> None:
        path = self.root / edit.file
        lines = path.read_bytes().split(b"\n")
        was, becomes = (edit.after, edit.before) if undo else (edit.before, edit.after)
        assert lines[edit.line - 1] == was.encode(), "the scratch copy is the tree that the edits were made from"
        lines[edit.line - 1] = becomes.encode()
        path.write_bytes(b"\n".join(lines))

    def pytest(self, arguments: list[str], limit: float) -> str:
        """The first test that fails, "survived" or "timed out"."""
        command = [self.python, "-m", "pytest", "-q", "-x", "--tb=no", "-rfE", "--no-header", *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(
            command, cwd=self.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True, preexec_fn=_bounded,
        )  # fmt: skip
        try:
            out, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            return "timed out"
        if process.returncode in (0, 5):  # passed, or nothing to run
            return "survived"
        failed = re.search(r"^(?:FAILED|ERROR) (\S+(?: \S+)*?)(?: - |$)", out, re.MULTILINE)
        return failed[1] if failed else f"exit code {process.returncode}"


def _bounded() -> None:
    """An edit may ask for all memory there is."""
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))


class Builder:
    """The extension of a scratch copy, rebuilt for one architecture after an edit."""

    def __init__(self, scratch: Scratch) -> None:
        self.scratch, self.build = scratch, scratch.root / "build" / "mutate"
        said = subprocess.run([sys.executable, "-m", "nanobind", "--cmake_dir"], capture_output=True, text=True, check=True).stdout.strip()
        options = [f"-Dnanobind_DIR={said}", f"-DPython_EXECUTABLE={scratch.python}", "-DCMAKE_BUILD_TYPE=Release", "-G", "Ninja"]
        subprocess.run(["cmake", "-S", scratch.root, "-B", self.build, *options], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["ninja", "-C", self.build, "_kernels"], check=True, stdout=subprocess.DEVNULL)
        self._copy()
        ask = "from throughtime import _kernels; print(_kernels.architecture())"
        self.arch = subprocess.run([scratch.python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
        self.link = subprocess.run(["ninja", "-C", self.build, "-t", "commands", "_kernels"], capture_output=True, text=True, check=True)
        self.lock = threading.Lock()

    def _copy(self) -> bytes:
        made = (self.build / self.scratch.extension.name).read_bytes()
        self.scratch.extension.write_bytes(made)
        return made

    def edited(self, edit: Edit) -> bytes | None:
        """The extension with the edit in it; None where that does not compile."""
        with self.lock:
            self.scratch.write(edit)
            targets = [f"kernels_{self.arch}_{element}" for element in ("float", "double")]
            done = subprocess.run(["ninja", "-C", self.build, *targets], capture_output=True)
            if done.returncode == 0:
                subprocess.run(self.link.stdout.strip().split("\n")[-1], shell=True, cwd=self.build, check=True)
            self.scratch.write(edit, undo=True)
            return self._copy() if done.returncode == 0 else None


CONTRACT = {"cells": "cell", "kernels": "cell", "csrc": "cell", "gradients": "gradient", "models": "gradient", "flow": "gradient"}


def concerning(tree: Path, file: str) -> list[str]:
    """Where a test would notice, nearest first: what is named after the file, the room's contract, the room."""
    room, stem = ("csrc" if file.startswith("csrc") else Path(file).parts[2]), Path(file).stem.strip("_")
    named = sorted(str(f.relative_to(tree)) for f in (tree / "tests").rglob("test_*.py") if stem in f.stem)
    contract = [f"tests/contracts/test_every_{CONTRACT[room]}.py"] if room in CONTRACT else []
    return [f for f in dict.fromkeys([*named, *contract, f"tests/{room.replace('csrc', 'kernels')}"]) if (tree / f).exists()]


def tried(edit: Edit, scratch: Scratch, builder: Builder | None, limit: float, near: bool) -> Fate:
    begun, untouched = time.monotonic(), scratch.extension.read_bytes()
    if edit.file.startswith("csrc"):
        assert builder is not None, "edits of C++ are tried only with a builder"
        made = builder.edited(edit)
        if made is None:
            return Fate(edit, "does not compile", time.monotonic() - begun)
        scratch.extension.write_bytes(made)
    else:
        scratch.write(edit)
    first = concerning(scratch.root, edit.file)
    by = scratch.pytest(first, limit)
    if by == "survived" and not near:
        by = scratch.pytest([f"--ignore={f}" for f in first], limit)
    if edit.file.startswith("csrc"):
        scratch.extension.write_bytes(untouched)
    else:
        scratch.write(edit, undo=True)
    return Fate(edit, by, time.monotonic() - begun)


def run(arguments: argparse.Namespace, python: list[Edit], cpp: list[Edit], place: Path) -> list[Fate]:
    tree = arguments.tree.resolve()
    builder = Builder(Scratch(tree, place / "builder"))
    kernels = builder.scratch.extension.read_bytes()
    scratches: queue.Queue[Scratch] = queue.Queue()
    for i in range(arguments.jobs):
        scratches.put(Scratch(tree, place / str(i), kernels))
    if not arguments.trust:
        by = builder.scratch.pytest(["-n", str(arguments.jobs)], 10 * arguments.limit)
        if by != "survived":
            sys.exit(
                f"The tree as it is fails already: {by}. Mend that first; an edit can only be caught by a suite that passes without it."
            )

    def one(edit: Edit) -> Fate:
        scratch = scratches.get()
        fate = tried(edit, scratch, builder, arguments.limit, arguments.near)
        scratches.put(scratch)
        print(shown(fate), flush=True)
        return fate

    with ThreadPoolExecutor(arguments.jobs) as pool:
        return list(pool.map(one, [*python[: arguments.count - arguments.cpp], *cpp[: arguments.cpp]]))


def shown(fate: Fate) -> str:
    edit = fate.edit
    return f"{edit.file}:{edit.line}\n  - {edit.before.strip()}\n  + {edit.after.strip()}\n  {fate.by} ({fate.seconds:.0f} s)"


def main() -> None:
    parser = argparse.ArgumentParser(description="Break the source one line at a time and see whether the tests notice.")
    parser.add_argument("--tree", type=Path, default=Path(__file__).resolve().parents[1], help="a checkout; this one unless given")
    parser.add_argument("--count", type=int, default=120, help="edits in all")
    parser.add_argument("--cpp", type=int, default=30, help="of these, edits of C++")
    parser.add_argument("--only", default="", help="a regular expression that a file's path must match")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--limit", type=float, default=1200, help="seconds for one run of pytest")
    parser.add_argument("--near", action="store_true", help="run only the tests that concern the file")
    parser.add_argument("--trust", action="store_true", help="do not run the suite on the tree as it is")
    parser.add_argument("--list", action="store_true", help="print the edits and stop")
    parser.add_argument("--json", type=Path, help="write the fates here as well")
    arguments = parser.parse_args()
    python, cpp = candidates(arguments.tree, arguments.seed, arguments.only)
    if arguments.list:
        for edit in [*python[: arguments.count - arguments.cpp], *cpp[: arguments.cpp]]:
            print(f"{edit.file}:{edit.line}\n  - {edit.before.strip()}\n  + {edit.after.strip()}")
        return
    with tempfile.TemporaryDirectory() as place:
        fates = run(arguments, python, cpp, Path(place))
    tried_at_all = [f for f in fates if f.by != "does not compile"]
    print("\nNot noticed:")
    for fate in tried_at_all:
        if not fate.killed:
            print(shown(fate))
    print(f"\n{sum(f.killed for f in fates)} of {len(tried_at_all)} edits were noticed.")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(f) for f in fates], indent=1))


if __name__ == "__main__":
    main()
