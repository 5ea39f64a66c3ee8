"""``throughtime compare-gradients``: every gradient method on the same weights and batch."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from .. import _check, data
from .._bar import bar
from .._check import InputError
from .._console import PLAIN, put
from .._shapes import State
from ..data import Batch, TokenStream
from ..gradients import AbstractGradient, Compared, compare
from ..models import AbstractModel, Head, LanguageModel, Linear, SequenceModel, SquaredError, Vectors
from ..nn import Orthogonal, Recurrence, TorchUniform
from ..training import METHODS, Estimate, NetworkOptions, RunFolder, build_cell, estimate, method_of
from ._app import Call
from ._compared import draw_compared, given_up, header, left_out, row_lines
from ._demo import reference_text
from ._outputs import lasting_console, new_picture
from ._place import STREAMS, place, usual_steps
from ._threads import use_threads
from ._time_limit import OutOfTimeError, time_limit
from ._verbs import CompareGradients, Task

_LENGTH, _BATCH_SIZE = 128, 16  # of a task
_CALLS_OF_COST = 5  # compare's own: to begin, three that are timed, one for the memory


def compare_gradients(chosen: CompareGradients, call: Call) -> int:
    """The verb."""
    _check_choices(chosen)
    methods = {spec: method_of(spec) for spec in chosen.methods or [row.spec for row in METHODS]}
    model, batch, state, about = _of_run(chosen.run, chosen) if chosen.run is not None else _of_task(chosen)
    picture = _picture(chosen)
    found, console = _Found(about, len(methods)), lasting_console(quiet=chosen.json)
    with (
        call.interruption.answering(found.interrupted),
        call.interruption.cleaned_up(lambda: found.print_json() if chosen.json and found.rows else None),
    ):
        _measure(model, batch, state, methods, found, chosen, console)
        draw_compared(found.rows, picture, about)
    if chosen.json:
        found.print_json(str(picture))
    console.print(f"picture: {picture}", **PLAIN)
    return 0


def _picture(chosen: CompareGradients) -> Path:
    """In the run folder, or here."""
    if chosen.picture is None and chosen.run is not None:
        return chosen.run / "gradients.png"
    return new_picture(chosen.picture, "gradients")


@dataclass
class _Found:
    """What has been measured so far."""

    about: str
    wanted: int  # methods
    rows: list[Compared] = field(default_factory=list)
    left_out: dict[str, float] = field(default_factory=dict)  # the seconds that each would take, by name
    given_up: dict[str, float] = field(default_factory=dict)  # the seconds that each had, by name

    def print_json(self, picture: str | None = None) -> None:
        """All of it on a line."""
        parts = {"left_out": self.left_out, "given_up": self.given_up}
        print(json.dumps({"about": self.about, "picture": picture, "methods": [asdict(row) for row in self.rows], **parts}), flush=True)

    def interrupted(self) -> str:
        """What there is for whoever did not want to wait."""
        return f"interrupted after {len(self.rows)} of {self.wanted} methods; no picture was drawn"


def _measure(
    model: AbstractModel,
    batch: Batch,
    state: State | None,
    methods: dict[str, AbstractGradient],
    found: _Found,
    chosen: CompareGradients,
    console: Console,
) -> None:
    """Row after row, each printed as soon as it is there; what the budget has no room for is left out, by name and cost.

    An estimate may err: a method that still runs when the budget is spent is given up, unless it is the first.
    """
    ends = math.inf if chosen.all else time.monotonic() + 60 * chosen.minutes
    calls = {name: (chosen.draws if hasattr(method, "seed") else 1) + _CALLS_OF_COST for name, method in methods.items()}
    put(console, found.about)
    with bar(Console(stderr=True)) as show:
        costs = {
            name: _estimated(model, batch, methods[name], partial(show, "estimating", i, len(methods))) for i, name in enumerate(methods)
        }
        seconds = {name: cost.seconds * calls[name] for name, cost in costs.items()}
        fitting = _fitting(seconds, ends - time.monotonic())
        if title := header(console):
            console.print(title, style="dim", **PLAIN)
        for i, name in enumerate(fitting):
            show("measuring", i, len(fitting))
            if i and time.monotonic() > ends:
                break
            began = time.monotonic()
            try:
                with time_limit(ends - began if i else math.inf):
                    (row,) = compare(model, batch, {name: methods[name]}, draws=chosen.draws, state=state)
            except OutOfTimeError:
                found.given_up[name] = time.monotonic() - began
                break
            found.rows.append(row)
            console.print(*row_lines(row, console), sep="\n", **PLAIN)
            console.file.flush()
    measured = {row.name for row in found.rows} | set(found.given_up)
    found.left_out = {name: cost for name, cost in seconds.items() if name not in measured}
    for line in [*given_up(found.given_up, console), *left_out(found.left_out, console)]:
        console.print(line, **PLAIN)


def _estimated(model: AbstractModel, batch: Batch, method: AbstractGradient, show: Callable[[], None]) -> Estimate:
    show()
    try:
        return estimate(model, batch, method)
    except (NotImplementedError, InputError):
        return Estimate(0.0, 0)  # the row says why


def _fitting(seconds: dict[str, float], in_all: float) -> list[str]:
    """As many methods as the time has room for, the quickest in any case; in their own order, but those of over a tenth of it last."""
    spent, fitting = 0.0, set[str]()
    for name in sorted(seconds, key=lambda name: seconds[name]):
        spent += seconds[name]
        if spent <= in_all or not fitting:
            fitting.add(name)
    return sorted((name for name in seconds if name in fitting), key=lambda name: seconds[name] > in_all / 10)


def _check_choices(chosen: CompareGradients) -> None:
    if (chosen.run is None) == (chosen.task is None):
        given = "neither is" if chosen.run is None else "both are"
        raise InputError(
            f"a run or --task says what to compare on, and {given} given; expected one of them. Name a run folder, or --task copy."
        )
    for name in ("length", "batch_size", "hidden", "layers"):
        if (value := getattr(chosen, name)) is not None:
            _check.positive(f"--{name.replace('_', '-')}", value, most=1_000_000)
    use_threads(chosen.threads)
    _check.seed(chosen.seed)
    _check.above_zero("--minutes", chosen.minutes)
    if chosen.draws < 2:
        raise InputError(f"--draws is {chosen.draws}; expected an integer from 2: one draw has no variance. Give more.")


def _of_run(path: Path, chosen: CompareGradients) -> tuple[AbstractModel, Batch, State | None, str]:
    """A run's best weights, and the place of its text at which ``flow`` looks too."""
    folder = RunFolder.open(path)
    task = folder.task()
    model = folder.load_model(task, torch.device("cpu"))
    length = chosen.length or usual_steps(folder)
    name, stream = task.windows(None, streams=chosen.batch_size or STREAMS, window=length)
    batch, state = place(model, stream)
    if chosen.length is not None and batch.T < chosen.length:
        raise InputError(
            f"the run's {name} part has {batch.T:,} steps; expected {chosen.length:,} or more for --length {chosen.length}. Lower --length."
        )
    return model, batch, state, f"{path}, {name} part: {_sizes(model, batch)}"


def _of_task(chosen: CompareGradients) -> tuple[AbstractModel, Batch, None, str]:
    """A network with the weights of ``--seed``, and a batch of the task."""
    assert chosen.task is not None, "_check_choices has seen to it"
    chance = torch.Generator().manual_seed(chosen.seed)
    torch.manual_seed(chosen.seed)
    batch = _batch(chosen.task, chosen.length or _LENGTH, chosen.batch_size or _BATCH_SIZE, chance)
    cell = build_cell(NetworkOptions(cell=chosen.cell))
    rules = (TorchUniform(), Orthogonal()) if chosen.orthogonal else (TorchUniform(),)
    if batch.inputs.is_floating_point():
        recurrence = Recurrence(cell, batch.inputs.shape[2], chosen.hidden, num_layers=chosen.layers, initialisers=rules)
        head = Head(chosen.hidden, batch.known_targets().shape[2], output=Linear(), loss=SquaredError())
        model: AbstractModel = SequenceModel(Vectors(batch.inputs.shape[2]), recurrence, head)
    else:
        symbols = 1 + int(max(batch.inputs.max(), batch.known_targets().max()))
        model = LanguageModel(symbols, cell=cell, hidden_size=chosen.hidden, num_layers=chosen.layers, embedding_size=0, initialisers=rules)
    return model, batch, None, f"{chosen.task}: {_sizes(model, batch)}"


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
