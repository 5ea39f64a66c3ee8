"""What can be chosen of a training run. These dataclasses are the command's flags, and the sections of ``config.json``.

Nothing of torch is imported before something is built, so that a wrong flag is told at once.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, final

from .. import _numbers
from .._errors import InputError
from .flag import Flag


def _shares(word: str) -> tuple[float, float, float]:
    first, second, third = map(float, word.split(","))
    return first, second, third


_SPLIT = Flag(
    "TRAIN,VALID,TEST",
    read=_shares,
    show=lambda shares: ",".join(f"{share:g}" for share in shares),
    wanted="three shares that add up to 1, with commas between",
    rare=True,
)


@final
@dataclass(frozen=True)
class TextOptions:
    """The text and its symbols."""

    shapes: ClassVar[tuple[str, ...]] = ("level",)  # what the weights depend on
    form: ClassVar[str] = "symbols"

    files: Annotated[tuple[Path, ...], Flag("FILE...", positional=True)] = ()
    """The training text: files, plain or gzip, folders of them, or - for the standard input; joined end to end."""
    valid: Annotated[Path | None, Flag("FILE", "a share of the training text")] = None
    """A validation text of its own."""
    test: Annotated[Path | None, Flag("FILE", "a share of the training text, if --valid is not given", rare=True)] = None
    """A test text of its own."""
    split: Annotated[tuple[float, float, float], _SPLIT] = (0.9, 0.05, 0.05)
    """Shares of the text, from its start, for training, validation and test."""
    encoding: Annotated[str, Flag(rare=True)] = "utf-8"
    """The files' encoding."""
    level: Literal["char", "byte", "word", "bpe"] = "char"
    """What a symbol is: a character, a byte, a word, or a subword (byte-pair encoding)."""
    vocab_size: Annotated[int | None, Flag("N", "word 30000, bpe 8192, char all of them")] = None
    """At most this many symbols, the commonest."""
    min_count: Annotated[int | None, Flag("N", "1, bpe 2", rare=True)] = None
    """Only symbols that occur this often in the training text."""

    def check(self) -> None:
        """Refuse what means nothing."""
        if not self.files:
            raise InputError("no text is named; expected one file or more. Give its path: throughtime train text book.txt")
        _numbers.split(self.split)
        if self.valid is not None and self.split != TextOptions.split:
            raise InputError(
                "`split` and `valid` are given together; expected one: with `valid`, all of the files is training text. Leave one out."
            )
        if self.vocab_size is not None:
            _numbers.positive("`vocab_size`", self.vocab_size)
        if self.min_count is not None:
            _numbers.positive("`min_count`", self.min_count)


CELLS = ("rnn", "gru", "lstm")
GALLERY = (  # cells.zoo.NAMES, which imports torch
    "mgu", "ugrnn", "coupled-lstm", "peephole-lstm", "ctrnn", "cfc", "star", "nbrc", "gru-reset-before", "ei", "indrnn", "mingru",
    "minlstm", "sru", "elstm", "lem", "cornn", "unicornn",
)  # fmt: skip
_WIDEST, _DEEPEST = 1_000_000, 1000  # a configuration is a stranger's word: nothing is built beyond


@dataclass(frozen=True)
class StackOptions:
    """The recurrent network."""

    cell: Annotated[str, Flag("{rnn,gru,lstm,...}", offered=(*CELLS, *GALLERY))] = "gru"
    """The simple (Elman) network, the gated recurrent unit, or long short-term memory; one of throughtime.cells.zoo by its name, such as
    mgu; or MODULE:CLASS, a cell of your own in a Python module that can be imported here."""
    activation: Annotated[
        Literal["tanh", "relu", "identity", "sigmoid"] | None, Flag("{tanh,relu,identity,sigmoid}", "tanh", rare=True)
    ] = None
    """The simple network's activation."""
    hidden: int = 256
    """Hidden units of each layer."""
    layers: int = 1
    """Recurrent layers."""
    dropout: float = 0.0
    """Probability of dropping a unit: of the network's input, between layers, before the head."""
    initial: Annotated[Literal["zeros", "random", "learnable"], Flag(rare=True)] = "zeros"
    """The state that a stream starts from."""
    init: Annotated[Literal["torch", "orthogonal", "identity"], Flag(rare=True)] = "torch"
    """Where the recurrent weights start."""
    forget_bias: Annotated[float | None, Flag("X", "as --init has it", rare=True)] = None
    """Start of the bias of the gate that keeps memory (lstm: f, gru: z)."""
    chrono: Annotated[int | None, Flag("N", "not done", rare=True)] = None
    """Longest lag that matters, in steps: gate biases are spread to match (chrono initialisation)."""

    def check(self) -> None:
        """Refuse what means nothing."""
        self.check_cell()
        if self.activation is not None and self.cell != "rnn":
            raise InputError(
                f"`activation='{self.activation}'` is given with `cell='{self.cell}'`; expected `cell='rnn'`, the only one whose "
                "activation is free. Leave one out."
            )
        _numbers.positive("`hidden`", self.hidden, most=_WIDEST)
        _numbers.positive("`layers`", self.layers, most=_DEEPEST)
        _numbers.fraction("`dropout`", self.dropout)
        if self.forget_bias is not None:
            _numbers.at_least("`forget_bias`", self.forget_bias, -1e6)
        if self.chrono is not None:
            _numbers.positive("`chrono`", self.chrono)
        for name, value in (("`forget_bias`", self.forget_bias), ("`chrono`", self.chrono)):
            if value is not None and self.cell == "rnn":
                raise InputError(
                    f"{name} is given with `cell='rnn'`; expected `cell='gru'` or lstm: it needs a cell with a gate that keeps memory. "
                    "Leave one out."
                )

    def check_cell(self) -> None:
        """Refuse a word that names no cell."""
        module, colon, name = self.cell.partition(":")
        if self.cell in (*CELLS, *GALLERY) or (colon and name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            return
        raise InputError(
            f"`cell` is {self.cell!r}; expected one of {', '.join((*CELLS, *GALLERY))}, or MODULE:CLASS for a cell of your own. Name one "
            "of them."
        )


@final
@dataclass(frozen=True)
class NetworkOptions(StackOptions):
    """The network."""

    embedding: Annotated[int | None, Flag("N", "as wide as the hidden layer", rare=True)] = None
    """Width of the embedding; 0: one-hot inputs."""
    tied: Annotated[bool, Flag(rare=True)] = False
    """Share the embedding's table with the head."""

    def check(self) -> None:
        """Refuse what means nothing."""
        super().check()
        if self.embedding is not None and self.embedding != 0:
            _numbers.positive("`embedding`", self.embedding, most=_WIDEST, remedy="0 means one-hot inputs.")
        if self.tied and self.embedding not in (None, self.hidden):
            raise InputError(
                f"`tied` is given with `embedding={self.embedding}` and `hidden={self.hidden}`; expected an embedding table to share, as "
                "wide as the hidden layer. Leave `tied` or `embedding` out."
            )


OptimiserName = Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"]


@final
@dataclass(frozen=True)
class OptimiserOptions:
    """The optimiser, its schedule, and clipping."""

    optimizer: OptimiserName = "adam"
    """The rule that turns gradients into steps."""
    lr: Annotated[float | None, Flag("X", "adam, adamw and rmsprop 0.002; adagrad 0.01; sgd 1")] = None
    """Learning rate."""
    momentum: Annotated[float, Flag(rare=True)] = 0.0
    """Momentum of sgd and rmsprop."""
    weight_decay: Annotated[float, Flag(rare=True)] = 0.0
    """Weight decay (adamw: decoupled; the others: added to the gradient)."""
    schedule: Literal["constant", "linear", "cosine", "exponential"] = "constant"
    """How the learning rate falls: not, in a line or a half cosine to a hundredth at the end, or by a factor every epoch."""
    warmup: Annotated[int, Flag(rare=True)] = 0
    """Steps over which the learning rate first rises from 0."""
    decay: Annotated[float, Flag(rare=True)] = 0.97
    """The exponential schedule's factor."""
    decay_after: Annotated[int, Flag(rare=True)] = 10
    """The exponential schedule starts after this many epochs."""
    clip: float = 1.0
    """The gradient's global norm is scaled down to this; 0: never."""
    clip_value: Annotated[float, Flag(rare=True)] = 0.0
    """Each element of the gradient is clamped to plus or minus this, before the norm is; 0: never."""
    clip_step: Annotated[float, Flag(rare=True)] = 0.0
    """At each time step the gradient that travels back is scaled down to this norm; 0: never."""
    omega: Annotated[float, Flag(rare=True)] = 0.0
    """The weight of Pascanu's regulariser, which keeps a simple network's gradient from vanishing; 0: none."""

    def check(self) -> None:
        """Refuse numbers that mean nothing."""
        if self.lr is not None:
            _numbers.above_zero("`lr`", self.lr)
        if self.momentum and self.optimizer not in ("sgd", "rmsprop"):
            raise InputError(
                f"`momentum` is given with `optimizer='{self.optimizer}'`; expected sgd or rmsprop, the only ones that take it."
            )
        _numbers.fraction("`momentum`", self.momentum)
        for name in ("weight_decay", "warmup", "decay_after", "clip", "clip_value", "clip_step", "omega"):
            _numbers.at_least(f"`{name}`", getattr(self, name), 0)
        if not 0 < self.decay <= 1:
            raise InputError(f"`decay` is {self.decay!r}; expected a factor in (0, 1].")

    @property
    def rate(self) -> float:
        """The learning rate, given or the optimiser's usual one."""
        usual = {"sgd": 1.0, "adam": 2e-3, "adamw": 2e-3, "rmsprop": 2e-3, "adagrad": 1e-2}
        return usual[self.optimizer] if self.lr is None else self.lr


@final
@dataclass(frozen=True)
class LoopOptions:
    """How long, how wide, and where."""

    batch_size: int = 32
    """Streams side by side: the data is cut into this many."""
    bptt: int = 64
    """The window of truncated backpropagation through time, in steps; with --gradient, the steps between two updates of the weights."""
    gradient: Annotated[str | None, Flag("METHOD[:OPTION=VALUE,...]", "truncated to --bptt steps")] = None
    """How the gradient is found, such as full, truncated:k1=16,k2=64, sliding:lags=32; another name lists them all."""
    epochs: Annotated[int | None, Flag("N", "10, if neither --steps nor --minutes is")] = None
    """Stop after this many passes over the data."""
    steps: Annotated[int | None, Flag("N")] = None
    """Stop after this many steps."""
    minutes: Annotated[float | None, Flag("X")] = None
    """Stop after this much time."""
    eval_every: Annotated[int | None, Flag("N", "an epoch, or 2000 if that is less", rare=True)] = None
    """Steps between validations."""
    patience: Annotated[int | None, Flag("N", "the whole budget is spent")] = None
    """Stop after this many validations without a better one."""
    on_nonfinite: Annotated[Literal["stop", "skip", "rollback"], Flag(rare=True)] = "stop"
    """After a step whose loss or gradient is not finite: stop; skip it; or go back to the saved state, on with half the learning rate."""
    sample_every: Annotated[int, Flag(rare=True)] = 0
    """Every so many steps, let the model write a line; 0: never."""
    eval_tokens: Annotated[int, Flag(rare=True)] = 200_000
    """A validation reads at most this many symbols or steps; the one at the end ten times as many, and throughtime evaluate all."""
    save_every: Annotated[float, Flag(rare=True)] = 60.0
    """Seconds between saves of the whole state, which also is saved at every validation."""
    seed: int = 0
    """Of the weights, dropout and random initial states."""
    threads: Annotated[int | None, Flag("N", "torch's own choice")] = None
    """Threads of torch."""
    kernels: Annotated[Literal["fast", "plain"], Flag(rare=True)] = "fast"
    """The packed kernels wherever they can serve, or the plain loop everywhere."""
    device: str = "cpu"
    """Where to compute: cpu, cuda, cuda:1, mps."""
    watch_flow: Annotated[int, Flag(rare=True)] = 0
    """Every so many steps, measure how far back the gradient reaches; 0: never. At 200 it costs about 2 % of the time."""

    def check(self) -> None:
        """Refuse numbers that mean nothing."""
        _numbers.positive("`batch_size`", self.batch_size)
        _numbers.positive("`bptt`", self.bptt)
        budgets = {k: v for k, v in (("`epochs`", self.epochs), ("`steps`", self.steps), ("`minutes`", self.minutes)) if v is not None}
        if len(budgets) > 1:
            raise InputError(
                f"{' and '.join(budgets)} are given together; expected one of `epochs`, `steps`, `minutes`. Leave out the others."
            )
        for name, value in budgets.items():
            _numbers.above_zero(name, value)
        if self.eval_every is not None:
            _numbers.positive("`eval_every`", self.eval_every)
        if self.patience is not None:
            _numbers.positive("`patience`", self.patience)
        _numbers.at_least("`sample_every`", self.sample_every, 0)
        _numbers.at_least("`eval_tokens`", self.eval_tokens, 2)
        _numbers.at_least("`save_every`", self.save_every, 0)
        _numbers.seed(self.seed)
        if self.threads is not None:
            _numbers.positive("`threads`", self.threads, most=1024)
        _numbers.at_least("`watch_flow`", self.watch_flow, 0)


_COLUMNS = Flag("COL[,COL]", read=lambda word: tuple(word.split(",")), show=",".join, wanted="names of columns, with commas between")


@final
@dataclass(frozen=True)
class SeriesOptions:
    """The table and what is forecast."""

    shapes: ClassVar[tuple[str, ...]] = ("target", "features", "known_future", "horizon", "relative", "loss", "interval")
    form: ClassVar[str] = "columns"

    files: Annotated[tuple[Path, ...], Flag("FILE", positional=True)] = ()
    """A table: CSV with a line of names, or Parquet."""
    target: Annotated[tuple[str, ...], _COLUMNS] = ()
    """The columns to forecast."""
    features: Annotated[tuple[str, ...], _COLUMNS] = ()
    """More columns to read, up to the moment of a forecast."""
    known_future: Annotated[tuple[str, ...], _COLUMNS] = ()
    """Columns that are known beforehand, such as holidays."""
    group: Annotated[str | None, Flag("COL", "the table is one series")] = None
    """The column that tells many series apart."""
    time: Annotated[str | None, Flag("COL", "a row is a step")] = None
    """The column of times."""
    horizon: int = 1
    """Steps to forecast at a time."""
    context: int = 24
    """Steps that are read before a forecast counts."""
    season: Annotated[int | None, Flag("STEPS", "what is usual for the step of time", rare=True)] = None
    """How long a season is: the seasonal-naive forecast repeats the last one."""
    split: Annotated[
        tuple[float, float, float],
        Flag(
            "TRAIN,VALID,TEST",
            read=_shares,
            show=lambda shares: ",".join(f"{share:g}" for share in shares),
            wanted="three shares that add up to 1, or three numbers of steps, with commas between",
        ),
    ] = (0.7, 0.1, 0.2)
    """The time, from its start, for training, validation and test: shares, or numbers of steps."""
    relative: bool = True
    """Forecast the change since the last value, which suits series that drift; --no-relative: the value itself."""
    loss: Literal["squared", "absolute", "huber", "gaussian", "quantiles"] = "squared"
    """What training makes small; gaussian and quantiles give intervals."""
    interval: float = 0.8
    """The probability that an interval is to hold."""

    def check(self) -> None:
        """Refuse what means nothing."""
        if len(self.files) != 1:
            raise InputError(
                f"{len(self.files) or 'no'} tables are named; expected one. Give its path: throughtime train series table.csv --target COL"
            )
        if not self.target:
            raise InputError("--target is not given; expected the column to forecast. Name it: --target COL")
        _numbers.positive("--horizon", self.horizon, most=100_000)
        _numbers.positive("--context", self.context, most=_WIDEST)
        if self.season is not None:
            _numbers.positive("--season", self.season)
        if not 0 < self.interval < 1:
            raise InputError(f"--interval is {self.interval!r}; expected a probability above 0 and below 1, such as 0.8.")
        if sum(self.split) <= 1 + 1e-6:
            _numbers.split(self.split)
        elif self.split[0] < 1 or any(n < 0 or n != int(n) for n in self.split):
            told = ",".join(f"{n:g}" for n in self.split)
            raise InputError(f"--split is {told}; expected three shares that add up to 1, or three numbers of steps, such as 700,100,200.")


class AnyRun:
    """What every task's run chooses beside its data; a run's fields are the sections of ``config.json``."""

    task: ClassVar[str]

    network: Any  # StackOptions, or what the task adds to them
    optimiser: OptimiserOptions
    loop: LoopOptions

    @property
    def source(self) -> Any:
        """The section about the data: the one that has the task's name."""
        return getattr(self, self.task)

    def check(self) -> None:
        """Refuse what means nothing, before anything is read, built or made."""
        self.source.check()
        self.network.check()
        self.optimiser.check()
        if self.optimiser.omega and self.network.cell != "rnn":
            raise InputError(
                f"`omega` is given with `cell='{self.network.cell}'`; expected `cell='rnn'`, the simple network that it is defined for. "
                "What keeps a gated cell's gradient alive is its memory gate: `forget_bias` or `chrono`."
            )
        self.loop.check()


@final
@dataclass(frozen=True)
class TextRun(AnyRun):
    """All that is chosen of a language model's training run: ``config.json``."""

    task = "text"

    text: TextOptions
    network: NetworkOptions
    optimiser: OptimiserOptions
    loop: LoopOptions


@final
@dataclass(frozen=True)
class SeriesRun(AnyRun):
    """All that is chosen of a forecaster's training run."""

    task = "series"

    series: SeriesOptions
    network: StackOptions
    optimiser: OptimiserOptions
    loop: LoopOptions

    def check(self) -> None:
        """Refuse what means nothing, before anything is read, built or made."""
        super().check()
        if self.loop.sample_every:
            raise InputError("--sample-every is given with train series; expected it with a model that writes, of a text. Leave it out.")
