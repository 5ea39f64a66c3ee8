"""A tiny run, made as the command makes it."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from _pictures import no_pictures as no_pictures, pictures as pictures
from rich.console import Console

from throughtime.training import (
    LoopOptions,
    NetworkOptions,
    OptimiserOptions,
    RunFolder,
    TextOptions,
    TextRun,
    TextTask,
    begin,
    check_run,
)

TEXT = (
    "".join(f"the {a} {b} sat on the {c}.\n" for a in ("big", "old", "red") for b in ("cat", "dog", "owl") for c in ("mat", "log", "box"))
    * 3
)


@pytest.fixture(autouse=True)
def _as_the_command_trains():
    torch.set_default_dtype(torch.float32)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def console():
    return Console(file=io.StringIO())


@pytest.fixture
def make_run(tmp_path):
    """A run that has begun: make_run("name", network={...}, optimiser={...}, loop={...})."""

    def make(
        name: str = "run", *, text: str = TEXT, network: dict | None = None, optimiser: dict | None = None, loop: dict | None = None
    ) -> RunFolder:
        file, path = tmp_path / "text.txt", tmp_path / name
        file.write_text(text, encoding="utf-8")
        path.mkdir()
        options = TextOptions(files=(file,), split=(0.8, 0.1, 0.1))
        config = TextRun(
            options,
            replace(NetworkOptions(hidden=6, embedding=4), **(network or {})),
            replace(OptimiserOptions(), **(optimiser or {})),
            replace(LoopOptions(batch_size=4, bptt=8, steps=12, eval_every=5, save_every=1e9, threads=1), **(loop or {})),
        )
        check_run(config)
        TextTask.prepare(path, config, parent=None, told=lambda what, done, total: None)
        run = RunFolder(path, config)
        run.write_config()
        begin(run)
        return run

    return make


@pytest.fixture
def text_file(tmp_path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path / "text.txt"
