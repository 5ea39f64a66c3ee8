"""All that can be typed: a dataclass a verb. A field is a flag, the string below it its help; the class's docstring is the verb's."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

from ..training.flag import Flag
from ..training.options import (
    AnyRun,
    FramesOptions,
    FramesRun,
    LabelsOptions,
    LabelsRun,
    LoopOptions,
    NetworkOptions,
    OptimiserOptions,
    SeriesOptions,
    SeriesRun,
    StackOptions,
    TextOptions,
    TextRun,
)

_Run = Annotated[Path, Flag("RUN", positional=True)]
_Threads = Annotated[int | None, Flag("N", "as many as are idle", rare=True)]
_Device = Annotated[str, Flag("NAME", rare=True)]
# data.NAMED, which imports numpy and torch
_NAMED = ("tiny-shakespeare", "jsb-chorales", "nottingham", "etth1", "sunspots", "sequential-mnist")
_QUESTIONS = ("layers", "training", "memory", "steps", "own-cells", "start-up")  # bench.QUESTIONS, as above
_Encoding = Annotated[str, Flag("NAME", rare=True)]


def _seeds(word: str) -> tuple[int, ...]:
    return tuple(int(seed) for seed in word.split(","))


@dataclass(frozen=True)
class FolderOptions:
    """The run folder, and the seed of what is drawn."""

    out: Annotated[Path | None, Flag("RUN", "runs/, the data's name, the cell and a number")] = None
    """The run folder."""
    resume: bool = False
    """Go on with the run in --out, from where it was saved. Its data and network stay; the rate, clips and budget may be given anew."""
    overwrite: bool = False
    """Replace the run in --out."""
    seed: Annotated[tuple[int, ...], Flag("N[,N...]", "0", read=_seeds, wanted="an integer, or several with commas between")] = ()
    """Of the weights, dropout and random initial states. Several: a run for each, in folders below --out, then mean and spread."""
    from_run: Annotated[Path | None, Flag("RUN", name="--from")] = None
    """Begin a new run from the best weights of this one, with its network and other options, on FILE or on its own data."""
    config: Annotated[Path | None, Flag("FILE")] = None
    """Options from a TOML file; flags go before it."""
    print_config: Annotated[bool, Flag(rare=True)] = False
    """Print all options as --config takes them, and do nothing else."""


class Train:
    """What every verb of training has: the sections of a run, and its folder."""

    kind: ClassVar[type[AnyRun]]
    network: Any
    optimiser: OptimiserOptions
    loop: LoopOptions
    folder: FolderOptions

    def run(self) -> AnyRun:
        """What is chosen, as config.json has it; of several seeds the first."""
        sections = {section.name: getattr(self, section.name) for section in fields(cast(Any, self.kind))}
        loop = replace(self.loop, seed=self.folder.seed[0]) if self.folder.seed else self.loop
        return self.kind(**sections | {"loop": loop})

    @classmethod
    def of(cls, run: AnyRun, folder: FolderOptions) -> "Train":
        """The words that would have chosen a run."""
        sections = {section.name: getattr(run, section.name) for section in fields(cast(Any, run))}
        return cast(Any, cls)(**sections, folder=folder)


@dataclass(frozen=True)
class TrainText(Train):
    """Train a recurrent language model on a text.

    throughtime train text book.txt --hidden 512 --epochs 20 --out runs/book

    throughtime train text --out runs/book --resume

    throughtime sample runs/book --prompt 'It was '
    """

    text: TextOptions = field(default_factory=TextOptions)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    optimiser: OptimiserOptions = field(default_factory=OptimiserOptions)
    loop: LoopOptions = field(default_factory=LoopOptions)
    folder: FolderOptions = field(default_factory=FolderOptions)

    kind = TextRun


@dataclass(frozen=True)
class TrainSeries(Train):
    """Train a forecaster on the series of a table.

    throughtime train series etth1.csv --time date --target OT --horizon 24 --out runs/oil

    throughtime evaluate runs/oil

    throughtime forecast runs/oil --out forecast.csv
    """

    series: SeriesOptions = field(default_factory=SeriesOptions)
    network: StackOptions = field(default_factory=lambda: StackOptions(hidden=64))
    optimiser: OptimiserOptions = field(default_factory=OptimiserOptions)
    loop: LoopOptions = field(default_factory=lambda: LoopOptions(batch_size=16))
    folder: FolderOptions = field(default_factory=FolderOptions)

    kind = SeriesRun


@dataclass(frozen=True)
class TrainFrames(Train):
    """Train a model of frames, such as piano rolls: it predicts the next vector of a piece.

    throughtime train frames JSB_Chorales.mat --hidden 256 --epochs 100 --out runs/bach

    throughtime sample runs/bach --length 64 --out piece.npy
    """

    frames: FramesOptions = field(default_factory=FramesOptions)
    network: StackOptions = field(default_factory=lambda: StackOptions(hidden=128))
    optimiser: OptimiserOptions = field(default_factory=OptimiserOptions)
    loop: LoopOptions = field(default_factory=lambda: LoopOptions(batch_size=8, bptt=200))
    folder: FolderOptions = field(default_factory=FolderOptions)

    kind = FramesRun


@dataclass(frozen=True)
class TrainLabels(Train):
    """Train a classifier of sequences, with a label for each sequence or for each step.

    throughtime train labels gestures.csv --id recording --time ms --label gesture --out runs/gestures

    throughtime evaluate runs/gestures

    throughtime predict runs/gestures --data new.csv --out labels.csv
    """

    labels: LabelsOptions = field(default_factory=LabelsOptions)
    network: StackOptions = field(default_factory=lambda: StackOptions(hidden=64))
    optimiser: OptimiserOptions = field(default_factory=OptimiserOptions)
    loop: LoopOptions = field(default_factory=lambda: LoopOptions(batch_size=16, bptt=1000))
    folder: FolderOptions = field(default_factory=FolderOptions)

    kind = LabelsRun


@dataclass(frozen=True)
class MakeForecast:
    """What comes after the end of a table: forecasts, intervals, times and a picture."""

    run: _Run
    """The run folder."""
    data: Annotated[Path | None, Flag("FILE", "the run's own")] = None
    """Another table with the same columns; rows at its end without a target say what is known beforehand."""
    steps: Annotated[int | None, Flag("N", "the run's horizon")] = None
    """How many steps; beyond the run's horizon the forecasts are read as if they had come, and intervals are those of sample paths."""
    interval: Annotated[float | None, Flag("X", "the run's own")] = None
    """The probability that an interval is to hold, with --loss gaussian."""
    out: Path = Path("forecast.csv")
    """The table to write, which must not be there yet; the picture is beside it."""
    threads: _Threads = None
    """Threads of torch."""
    device: _Device = "cpu"
    """Where to compute."""


@dataclass(frozen=True)
class Predict:
    """The labels of sequences, and the probability of every class."""

    run: _Run
    """The run folder."""
    data: Annotated[Path | None, Flag("FILE", "the run's own test part")] = None
    """A file like the run's own; it needs no labels."""
    out: Path = Path("labels.csv")
    """The table to write, which must not be there yet."""
    threads: _Threads = None
    """Threads of torch."""
    device: _Device = "cpu"
    """Where to compute."""


@dataclass(frozen=True)
class Evaluate:
    """How well a trained model predicts: a text in nats, bits and perplexity; series in a backtest beside naive forecasts; frames in nats;
    labels by accuracy, F1 and a picture of what is taken for what."""

    run: _Run
    """The run folder."""
    data: Annotated[Path | None, Flag("FILE", "the run's own")] = None
    """Another text, table, or file of frames or labels, of the same kind as the run's."""
    section: Annotated[Literal["train", "valid", "test"] | None, Flag(unless="test, or valid where there is no test")] = None
    """Which part of the run's data."""
    encoding: _Encoding = "utf-8"
    """The encoding of --data."""
    streams: Annotated[int | None, Flag("N", "more for a longer text", rare=True)] = None
    """Read the text in this many pieces side by side, each from the initial state."""
    threads: _Threads = None
    """Threads of torch."""
    device: _Device = "cpu"
    """Where to compute."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class Sample:
    """Let a trained model write on from a prompt: a text, or the frames of a piece."""

    run: _Run
    """The run folder."""
    prompt: Annotated[str | None, Flag("TEXT", "a line end; the first held-out piece")] = None
    """The text to go on from; or of frames, a file whose first piece is gone on from."""
    length: Annotated[int | None, Flag("N", "500 symbols, 100 frames")] = None
    """How many symbols or frames to write."""
    temperature: float = 1.0
    """Below 1: likelier symbols; above: more surprising ones; 0: always the likeliest."""
    top_k: Annotated[int | None, Flag("K", "any")] = None
    """Only the likeliest this many symbols may be drawn."""
    seed: Annotated[int | None, Flag("N", "another one each time")] = None
    """The same seed writes the same text."""
    count: int = 1
    """How many texts to write, with an empty line between; or how many pieces."""
    out: Annotated[Path | None, Flag("FILE", "piece.npy; a text is printed")] = None
    """Of frames, the file to write, npy or npz, which must not be there yet."""
    threads: _Threads = None
    """Threads of torch."""
    device: _Device = "cpu"
    """Where to compute."""


@dataclass(frozen=True)
class Export:
    """Write a trained model to a file that other runtimes read."""

    run: _Run
    """The run folder."""
    format: Literal["onnx"] = "onnx"
    """What to write: onnx runs in onnxruntime, on phones and in browsers too."""
    to: Annotated[Path | None, Flag("FILE", "model.onnx in the run folder")] = None
    """The file to write, which ends in .onnx and must not be there yet."""


@dataclass(frozen=True)
class ShowFlow:
    """Which past the loss leans on: does the gradient vanish or explode, what window is enough."""

    run: _Run
    """The run folder."""
    data: Annotated[Path | None, Flag("FILE", "the run's own held-out text")] = None
    """Another text."""
    html: Annotated[Path | None, Flag("FILE")] = None
    """Write one page that a person can point at, to a file that is not there yet; it needs no network."""
    json: bool = False
    """Print every number as JSON."""
    steps: Annotated[int | None, Flag("T", "two of the run's windows")] = None
    """How many steps to look at, and so how far back."""
    streams: int = 8
    """How many places of the text to look at, side by side."""
    encoding: _Encoding = "utf-8"
    """The encoding of --data."""
    threads: _Threads = None
    """Threads of torch."""
    device: _Device = "cpu"
    """Where to compute."""


Task = Literal["copy", "adding", "delayed-addition", "temporal-order", "text"]


@dataclass(frozen=True)
class CompareGradients:
    """Every gradient method on the same weights and batch: right, noisy, fast, large."""

    run: Annotated[Path | None, Flag("RUN", "--task is", positional=True)] = None
    """A run folder: its weights, and its held-out text, at the same place as throughtime flow."""
    task: Annotated[Task | None, Flag(unless="a run is")] = None
    """A synthetic task, or text that Python carries; and a new network."""
    methods: Annotated[tuple[str, ...], Flag("METHOD[:OPTION=VALUE,...] ...", "all, with usual options")] = ()
    """The methods, as --gradient of throughtime train takes them."""
    length: Annotated[int | None, Flag("T", "two of the run's windows; 128 of a task")] = None
    """Steps of the batch."""
    batch_size: Annotated[int | None, Flag("B", "8 of a run; 16 of a task")] = None
    """Streams side by side; of a run, fewer where the text is short."""
    cell: Literal["rnn", "gru", "lstm"] = "gru"
    """The cell of a task's network."""
    hidden: int = 32
    """Hidden units of a task's network."""
    layers: int = 1
    """Recurrent layers of a task's network."""
    orthogonal: Annotated[bool, Flag(rare=True)] = False
    """Orthogonal recurrent weights for a task's network: the gradient lasts longer than with torch's."""
    draws: int = 20
    """Draws of a method that has chance in it."""
    minutes: float = 1.0
    """Methods that would take the whole longer than this are left out."""
    all: bool = False
    """Leave no method out, however long it takes."""
    seed: int = 0
    """Of the task and its network's weights."""
    threads: _Threads = None
    """Threads of torch."""
    picture: Annotated[Path | None, Flag("FILE", "gradients.png in the run folder, or here")] = None
    """Where the picture goes."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class Bench:
    """How fast this machine is: layers, training, memory, single steps, cells of your own and start-up, beside torch.nn and, where they are
    installed, JAX and onnxruntime. The contestants take turns; numbers are medians with their quartiles.
    """

    only: Annotated[tuple[str, ...], Flag("QUESTION ...", "all", offered=_QUESTIONS)] = ()
    """Some of layers, training, memory, steps, own-cells and start-up."""
    seconds: float = 2.0
    """About how long a row may take; longer steadies the numbers."""
    threads: _Threads = None
    """Threads of every contestant."""
    picture: Annotated[Path | None, Flag("FILE", "bench.png, or the next free name")] = None
    """Where the picture goes."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class Runs:
    """A table of the runs in a folder: cell, size, steps, loss and speed."""

    folder: Annotated[Path, Flag("FOLDER", "runs", positional=True)] = Path("runs")
    """Where to look, and in the folders below."""


@dataclass(frozen=True)
class Data:
    """Fetch a data set by its name and print where it is, its terms and whom to cite; without a name, list them.

    throughtime train text $(throughtime data tiny-shakespeare)
    """

    name: Annotated[str | None, Flag("NAME", positional=True, offered=_NAMED)] = None
    """The data set. It is kept in THROUGHTIME_DATA, or in the user's cache folder."""


@dataclass(frozen=True)
class Demo:
    """A minute of training on the language reference in pydoc_data.topics."""

    minutes: float = 1.0
    """How long to train."""
    hidden: int = 128
    """Hidden units."""
    out: Annotated[Path | None, Flag("RUN", "runs/, demo and a number")] = None
    """The run folder."""


@dataclass(frozen=True)
class Cache:
    """The compiled kernels of cells of your own: where they are, how many and how large."""

    clear: bool = False
    """Remove them all; each is compiled again when it is next used."""


@dataclass(frozen=True)
class Completion:
    """A script that lets the shell complete verbs, flags and their values.

    eval "$(throughtime completion bash)"
    """

    shell: Annotated[Literal["bash", "zsh", "fish"], Flag("SHELL", positional=True)]
    """The shell that is to read it: bash, zsh or fish."""


@dataclass(frozen=True)
class Info:
    """Versions, device, threads and kernels."""
