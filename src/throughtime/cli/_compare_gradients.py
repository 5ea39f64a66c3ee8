"""``throughtime compare-gradients``: every gradient method on the same weights and batch."""

import json
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

from .. import _check, data
from .._bar import bar
from .._check import InputError
from ..data import Batch, TokenStream
from ..gradients import Compared, compare
from ..models import AbstractModel, Head, LanguageModel, Linear, SequenceModel, SquaredError, Vectors
from ..nn import Orthogonal, Recurrence, TorchUniform
from ..training import METHODS, NetworkOptions, RunFolder, build_cell, method_of
from ._app import Call
from ._compared import compared_table, draw_compared, refusals
from ._demo import reference_text
from ._verbs import CompareGradients

Task = Literal["copy", "adding", "delayed-addition", "temporal-order", "text"]


def compare_gradients(chosen: CompareGradients, call: Call) -> int:
    """The verb."""
    _check_choices(chosen)
    methods = {spec: method_of(spec) for spec in chosen.methods or [row.spec for row in METHODS]}
    model, batch, about = _of_run(chosen.run, chosen) if chosen.run is not None else _of_task(chosen)
    rows: list[Compared] = []
    with bar(Console(stderr=True)) as show:
        for row in compare(model, batch, methods, draws=chosen.draws):
            rows.append(row)
            show("measuring", len(rows), len(methods))
    picture = chosen.picture or (chosen.run or Path()) / "gradients.png"
    draw_compared(rows, picture, about)
    if chosen.json:
        print(json.dumps({"about": about, "picture": str(picture), "methods": [asdict(row) for row in rows]}))
        return 0
    console = Console()
    console.print(about, compared_table(rows), highlight=False, sep="\n")
    for line in refusals(rows):
        console.print(textwrap.fill(line, min(console.width, 100), subsequent_indent="  "), highlight=False, markup=False)
    console.print(f"picture: {picture}", soft_wrap=True, highlight=False, markup=False)
    return 0


def _check_choices(chosen: CompareGradients) -> None:
    if (chosen.run is None) == (chosen.task is None):
        given = "neither is" if chosen.run is None else "both are"
        raise InputError(
            f"a run or --task says what to compare on, and {given} given; expected one of them. Name a run folder, or --task copy."
        )
    for name in ("length", "batch_size", "hidden", "layers"):
        _check.positive(f"--{name.replace('_', '-')}", getattr(chosen, name), most=1_000_000)
    if chosen.threads is not None:
        torch.set_num_threads(_check.positive("--threads", chosen.threads, most=1024))
    _check.seed(chosen.seed)


def _of_run(path: Path, chosen: CompareGradients) -> tuple[AbstractModel, Batch, str]:
    """A run's best weights, and the first windows of its training text."""
    folder = RunFolder.open(path)
    model = folder.load_model(folder.vocabulary(), torch.device("cpu"))
    tokens = folder.corpus().sections["train"].tokens
    needed = chosen.batch_size * chosen.length + 1
    if len(tokens) < needed:
        raise InputError(
            f"the run's training text has {len(tokens):,} symbols; expected {needed:,} for {chosen.batch_size} streams of {chosen.length} "
            "steps. Lower --length or --batch-size."
        )
    batch = TokenStream(tokens, batch_size=chosen.batch_size, window=chosen.length)[0]
    return model, batch, f"{path}: {_sizes(model, batch)}"


def _of_task(chosen: CompareGradients) -> tuple[AbstractModel, Batch, str]:
    """A network with the weights of ``--seed``, and a batch of the task."""
    assert chosen.task is not None, "_check_choices has seen to it"
    chance = torch.Generator().manual_seed(chosen.seed)
    torch.manual_seed(chosen.seed)
    batch = _batch(chosen.task, chosen.length, chosen.batch_size, chance)
    cell = build_cell(NetworkOptions(cell=chosen.cell))
    rules = (TorchUniform(), Orthogonal()) if chosen.orthogonal else (TorchUniform(),)
    if batch.inputs.is_floating_point():
        recurrence = Recurrence(cell, batch.inputs.shape[2], chosen.hidden, num_layers=chosen.layers, initialisers=rules)
        head = Head(chosen.hidden, batch.targets.shape[2], output=Linear(), loss=SquaredError())
        model: AbstractModel = SequenceModel(Vectors(batch.inputs.shape[2]), recurrence, head)
    else:
        symbols = 1 + int(max(batch.inputs.max(), batch.targets.max()))
        model = LanguageModel(symbols, cell=cell, hidden_size=chosen.hidden, num_layers=chosen.layers, embedding_size=0, initialisers=rules)
    return model, batch, f"{chosen.task}: {_sizes(model, batch)}"


def _batch(task: Task, length: int, batch_size: int, chance: torch.Generator) -> Batch:
    match task:
        case "copy":
            size = max(1, min(10, length // 3))
            return data.copying(max(1, length - 2 * size), batch_size, chance, size=size)
        case "adding":
            return data.adding(length, batch_size, chance)
        case "delayed-addition":
            return data.delayed_addition(length, batch_size, chance)
        case "temporal-order":
            return data.temporal_order(length, batch_size, chance)
        case "text":
            text = reference_text()
            ids = data.Chars.count([text]).encode(text[: batch_size * length + 1])
            return TokenStream(ids, batch_size=batch_size, window=length)[0]


def _sizes(model: AbstractModel, batch: Batch) -> str:
    r = model.recurrence
    layers = f", {r.num_layers} layers" if r.num_layers > 1 else ""
    return f"{type(r.cell).__name__}, {r.hidden_size} units{layers}, {batch.T} steps of {batch.B} streams"
