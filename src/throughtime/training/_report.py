"""Station ⑧: what a person sees of a run: a live line, metrics.jsonl, TensorBoard events, curves.png."""

import abc
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, final

import numpy as np
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress as Bar, TextColumn
from rich.text import Text

from .._console import packed, put
from ._folder import RunFolder
from ._rows import Events, Rows, read_rows, without_tracebacks
from ._score import AbstractScore
from ._state import Progress, Since
from ._unit import Unit
from ._watch import FlowRow
from .options import AnyRun, LoopOptions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PLAIN_EVERY = 5.0  # seconds between two lines where there is no terminal


@final
@dataclass(frozen=True)
class TrainRow:
    """One report of training: means over the steps since the last."""

    step: int
    epoch: float
    loss: float
    norm: float  # of the gradient before the clip
    clipped: float  # share of all steps so far that a clip changed
    rate: float
    speed: float  # steps of streams in a second
    seconds: float
    method: Mapping[str, float]  # what the gradient method tells of itself
    unit: Unit

    @classmethod
    def of(cls, progress: Progress, epoch: float, rate: float, method: Mapping[str, float], unit: Unit) -> "TrainRow":
        """The row of what has gathered since the last; the gathering begins anew."""
        since, progress.since = progress.since, Since()
        return cls(
            step=progress.step,
            epoch=epoch,
            loss=since.loss / since.steps,
            norm=since.norm / since.steps,
            clipped=progress.clipped / progress.step,
            rate=rate,
            speed=since.tokens / max(since.seconds, 1e-9),
            seconds=progress.seconds,
            method=method,
            unit=unit,
        )

    def as_dict(self) -> dict[str, Any]:
        names = {
            "loss": self.loss,
            self.unit.drawn: self.unit.factor * self.loss,
            "gradient_norm": self.norm,
            "clipped_share": self.clipped,
            "learning_rate": self.rate,
        }
        where = {"kind": "train", "step": self.step, "epoch": round(self.epoch, 4)}
        return where | names | dict(self.method) | {self.unit.speed: self.speed, "seconds": round(self.seconds, 3)}


class _Live(Bar):
    """Numbers over a bar: a line of them where there are 80 columns, more lines where there are fewer."""

    parts: Sequence[str] = ()

    def get_renderables(self) -> Iterator[RenderableType]:
        if self.parts:
            yield Text("\n".join(packed(self.parts, self.console.width)), no_wrap=True, overflow="ellipsis")
        yield from super().get_renderables()


class AbstractReport(abc.ABC):
    """What the loop tells while it runs."""

    def __enter__(self) -> "AbstractReport":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @abc.abstractmethod
    def back_to(self, step: int) -> None:
        """Forget what was reported after a step."""

    @abc.abstractmethod
    def tell(self, sentence: str) -> None:
        """Something that whoever trains should know."""

    @abc.abstractmethod
    def event(self, kind: str, step: int, sentence: str, **numbers: float | str) -> None:
        """Something that happened at a step: a row of its kind, and a sentence."""

    @abc.abstractmethod
    def train(self, row: TrainRow, *, done: float, seconds_left: float) -> None:
        """A row of training; ``done`` is the share of the budget spent."""

    @abc.abstractmethod
    def valid(self, step: int, score: AbstractScore, seconds: float, *, best: bool) -> None:
        """A validation."""

    @abc.abstractmethod
    def flow(self, row: FlowRow) -> None:
        """A look at the gradient's way through time."""

    @abc.abstractmethod
    def sample(self, step: int, text: str) -> None:
        """What the model writes."""

    @abc.abstractmethod
    def flush(self) -> None:
        """Everything so far to the disk."""


@final
class Silence(AbstractReport):
    """Of the processes beside the first."""

    def back_to(self, step: int) -> None:
        pass

    def tell(self, sentence: str) -> None:
        pass

    def event(self, kind: str, step: int, sentence: str, **numbers: float | str) -> None:
        pass

    def train(self, row: TrainRow, *, done: float, seconds_left: float) -> None:
        pass

    def valid(self, step: int, score: AbstractScore, seconds: float, *, best: bool) -> None:
        pass

    def flow(self, row: FlowRow) -> None:
        pass

    def sample(self, step: int, text: str) -> None:
        pass

    def flush(self) -> None:
        pass


@final
class Report(AbstractReport):
    """Writes every row to the run folder, and the latest to the terminal.

    Args:
        folder: an existing run.
        console: where to show progress; quiet consoles are fine.
        step: rows after this one, of a run that went further and was killed, are dropped.
    """

    def __init__(self, folder: RunFolder, console: Console, *, step: int = 0) -> None:
        self._folder, self._console, self._spoken, self._quiet = folder, console, -math.inf, ExitStack()
        self._open(step)
        if not step:
            self._events.text("options", _as_table(folder.config))
        self._bar = _Live(BarColumn(None), TextColumn("{task.fields[left]}"), console=console, disable=not console.is_terminal, expand=True)
        self._task = self._bar.add_task("training", total=1.0, left="")

    def _open(self, step: int) -> None:
        self._rows = Rows(self._folder.metrics, step, self._folder.unit.drawn)
        self._events = Events(self._folder.path, step, self.tell)
        self._valid_events = Events(self._folder.path / "valid", step, self.tell)  # a log of its own: TensorBoard lays it over the other

    def __enter__(self) -> "AbstractReport":
        self._quiet.enter_context(without_tracebacks())
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        self._close()
        self._quiet.close()

    def _close(self) -> None:
        self._rows.close()
        self._events.close()
        self._valid_events.close()

    def back_to(self, step: int) -> None:
        self._close()
        self._open(step)

    def tell(self, sentence: str) -> None:
        put(self._console, *sentence.split("  "))

    def event(self, kind: str, step: int, sentence: str, **numbers: float | str) -> None:
        self._rows.add({"kind": kind, "step": step, **numbers})
        self.tell(f"step {step:,}  {sentence}")

    def train(self, row: TrainRow, *, done: float, seconds_left: float) -> None:
        self._write(row.as_dict(), self._events)
        parts = [
            *(f"step {row.step:,}", *row.unit.told(row.loss).split("  "), f"{_short(row.speed)} {row.unit.each}/s"),
            *(f"|g| {row.norm:.2g}", f"clipped {row.clipped:.0%}"),
        ]
        left = f"{_clock(seconds_left)} left"
        self._bar.parts = parts
        self._bar.update(self._task, completed=done, left=left)
        if not self._console.is_terminal and row.seconds - self._spoken >= _PLAIN_EVERY:
            put(self._console, *parts, left)
            self._spoken = row.seconds

    def valid(self, step: int, score: AbstractScore, seconds: float, *, best: bool) -> None:
        self._write({"kind": "valid", "step": step, **score.as_dict(), "seconds": round(seconds, 3)}, self._valid_events)
        first, *rest = score.line().split("  ")
        put(self._console, f"step {step:,}", f"valid {first}", *rest, *(["best"] if best else []))

    def flow(self, row: FlowRow) -> None:
        self._rows.add(row.as_dict())
        for name, value in row.scalars().items():
            self._events.scalar(f"flow/{name}", value, row.step)

    def sample(self, step: int, text: str) -> None:
        self._events.text("sample", text, step)
        self.tell(f"step {step:,}  writes {text!r}")

    def flush(self) -> None:
        self._rows.flush()
        self._events.flush()
        self._valid_events.flush()

    def _write(self, row: dict[str, Any], events: Events) -> None:
        self._rows.add(row)
        for name, value in row.items():
            if name not in ("kind", "step") and value is not None:
                events.scalar("loss" if name == "nats" else name, value, row["step"])


def _as_table(config: AnyRun) -> str:
    """The run's options in Markdown, as TensorBoard shows text."""
    rows = [
        f"| {name} | {value} |" for section in asdict(cast(Any, config)).values() for name, value in section.items() if value is not None
    ]
    return "\n".join(["| option | value |", "| --- | --- |", *rows])


def draw_curves(folder: RunFolder, clip: float) -> None:
    """``curves.png``: loss of training and validation, the gradient's norm with the clip, and, where it was watched, how far it reached."""
    from matplotlib.figure import Figure  # as above

    rows = read_rows(folder.metrics, folder.unit.drawn)
    train, valid, looks = ([r for r in rows if r.get("kind") == kind] for kind in ("train", "valid", "flow"))
    if not train:
        return
    figure = Figure(figsize=(9, 8 if looks else 6), layout="constrained")
    top, middle, *bottom = figure.subplots(3 if looks else 2, 1, sharex=True, height_ratios=[2, 1, 1.3][: 3 if looks else 2])
    _draw_losses(top, train, valid, folder.unit)
    top.set_title(f"{folder.config.network.cell}, {folder.config.network.hidden} units, {_window(folder.config.loop)}")
    _draw_norms(middle, train, clip)
    for axes in bottom:
        _draw_looks(axes, looks)
    (bottom or [middle])[0].set_xlabel("step")
    _save(figure, folder.curves)


def _draw_losses(axes: "Axes", train: list[dict[str, Any]], valid: list[dict[str, Any]], unit: Unit) -> None:
    axes.plot(*_columns(train, unit.drawn), color="#9ecae1", linewidth=1, label="training")
    if valid:
        axes.plot(*_columns(valid, unit.drawn), color="#08519c", marker="o", markersize=3, label="validation")
        least = min(valid, key=lambda r: r[unit.drawn])
        at = (least["step"], least[unit.drawn])
        on_white = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
        axes.annotate(f"{at[1]:.3f}", at, textcoords="offset points", xytext=(0, 9), ha="center", bbox=on_white)
    axes.set(ylabel=unit.label)
    _finish(axes)


def _draw_norms(axes: "Axes", train: list[dict[str, Any]], clip: float) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    steps, norms = _columns(train, "gradient_norm")
    axes.plot(steps, norms, color="#e6550d", linewidth=1, label="before the clip")
    if clip:
        axes.axhline(clip, color="black", linewidth=0.8, linestyle="--", label=f"clipped to {clip:g}")
    axes.set(ylabel="gradient norm", yscale="log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    _finish(axes)


def _draw_looks(axes: "Axes", looks: list[dict[str, Any]]) -> None:
    """Lags up, steps to the right, the profile as a share of its greatest in colours, and the horizon as a line.

    Where the horizon lies beyond the window, the line runs along the last lag, with marks that point beyond it.
    """
    steps, deepest = [r["step"] for r in looks], max(len(r["profile"]) for r in looks)
    shares = np.full((deepest, len(looks)), np.nan)
    for column, row in enumerate(looks):
        values = np.array([x or 0.0 for x in row["profile"]])  # null where no loss reaches
        shares[: len(values), column] = values / (values.max() or 1.0)
    logs = np.log10(np.maximum(shares, 1e-6))
    shown = axes.pcolormesh(_edges(steps), np.arange(deepest + 1) - 0.5, logs, cmap="viridis", vmin=-6, vmax=0, rasterized=True)
    below = bool(np.nanmin(shares) < 1e-6)
    axes.figure.colorbar(shown, ax=axes, label="log$_{10}$ share", extend="min" if below else "neither")
    horizons = [len(r["profile"]) - 1 if r["horizon"] is None else r["horizon"] for r in looks]
    axes.plot(steps, horizons, color="white", linewidth=1.2, marker="o", markersize=2.5, label="horizon: 1 % is left")
    beyond = [(s, h) for s, h, r in zip(steps, horizons, looks, strict=True) if r["horizon"] is None]
    if beyond:
        axes.plot(*zip(*beyond, strict=True), color="white", linestyle="none", marker="^", markersize=6, label="beyond the window")
    axes.set(ylabel="lag of the gradient", ylim=(-0.5, deepest - 0.5))
    axes.legend(labelcolor="white", facecolor="black", framealpha=0.45, edgecolor="none", loc="best")


def _columns(rows: list[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    return [r["step"] for r in rows], [r[name] for r in rows]


def _finish(axes: "Axes") -> None:
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)


def _save(figure: "Figure", path: Path) -> None:
    """Replace the picture as a whole."""
    aside = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        figure.savefig(aside, dpi=120)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _edges(steps: list[int]) -> np.ndarray:
    """The borders between steps, and one beyond each end."""
    at = np.array(steps, float)
    middle = (at[1:] + at[:-1]) / 2 if len(at) > 1 else at
    half = (middle[0] - at[0] or at[0] / 2, at[-1] - middle[-1] or at[-1] / 2)
    return np.concatenate(([at[0] - half[0]], middle if len(at) > 1 else [], [at[-1] + half[1]]))


def _window(loop: LoopOptions) -> str:
    return f"window {loop.bptt}" if loop.gradient is None else f"{loop.gradient}, {loop.bptt} steps"


def _short(number: float) -> str:
    return f"{number / 1e6:.2f}M" if number >= 1e6 else f"{number / 1e3:.1f}k" if number >= 1e3 else f"{number:.0f}"


def _clock(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
