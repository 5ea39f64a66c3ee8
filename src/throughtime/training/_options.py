"""What can be chosen of a training run. These dataclasses are the command's flags, and the sections of ``config.json``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, final

import torch
import tyro

from .. import _check, cells, nn
from .._check import InputError
from ..data import Level, TextSource
from ..gradients import AbstractGradient, TruncatedBPTT, WithOmega
from ..kernels import Kernels
from ..models import LanguageModel
from ._gradients import method_of, with_clip


def _parse_shares(arguments: list[str]) -> tuple[float, float, float]:
    shares = tuple(float(share) for share in arguments[0].split(","))
    if len(shares) != 3:
        raise ValueError
    return shares


_shares = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="TRAIN,VALID,TEST",
    instance_from_str=_parse_shares,
    is_instance=lambda value: isinstance(value, tuple) and len(value) == 3,
    str_from_instance=lambda shares: [",".join(f"{share:g}" for share in shares)],
)


def _unless(metavar: str, given: str = "") -> Any:
    """An option that may be left out, and what holds then."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(unless given: {given})" if given else "")


@final
@dataclass(frozen=True)
class TextOptions:
    """The text and its symbols."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional, _unless("FILE...")] = ()
    """The training text; several files are joined end to end."""
    valid: Annotated[Path | None, _unless("FILE", "a share of the training text")] = None
    """A validation text of its own."""
    test: Annotated[Path | None, _unless("FILE", "a share of the training text, if --valid is not given")] = None
    """A test text of its own."""
    split: Annotated[tuple[float, float, float], _shares] = (0.9, 0.05, 0.05)
    """Shares of the text, from its start, for training, validation and test."""
    encoding: str = "utf-8"
    """The files' encoding."""
    level: Level = "char"
    """What a symbol is: a character, a byte, a word, or a subword (byte-pair encoding)."""
    vocab_size: Annotated[int | None, _unless("N", "word 30000, bpe 8192, char all of them")] = None
    """At most this many symbols, the commonest."""
    min_count: Annotated[int | None, _unless("N", "1, bpe 2")] = None
    """Only symbols that occur this often in the training text."""

    def source(self) -> TextSource:
        """The files and how they are cut."""
        if not self.files:
            raise InputError("no text is named; expected one file or more. Give its path: throughtime train text book.txt")
        return TextSource(self.files, self.valid, self.test, self.split, self.encoding)


Cell = Literal["rnn", "gru", "lstm"]
_WIDEST, _DEEPEST = 1_000_000, 1000  # a configuration is a stranger's word: nothing is built beyond
_ACTIVATIONS = {"tanh": cells.Tanh(), "relu": cells.Relu(), "identity": cells.Identity(), "sigmoid": cells.Sigmoid()}
_INITIALS = {"zeros": nn.Zeros(), "random": nn.Random(), "learnable": nn.Learnable()}
_INITIALISERS = {"torch": (), "orthogonal": (nn.Orthogonal(),), "identity": (nn.IdentityMatrix(),)}


@final
@dataclass(frozen=True)
class NetworkOptions:
    """The network."""

    cell: Cell = "gru"
    """The simple (Elman) network, the gated recurrent unit, or long short-term memory."""
    activation: Annotated[Literal["tanh", "relu", "identity", "sigmoid"] | None, _unless("{tanh,relu,identity,sigmoid}", "tanh")] = None
    """The simple network's activation."""
    hidden: int = 256
    """Hidden units of each layer."""
    layers: int = 1
    """Recurrent layers."""
    embedding: Annotated[int | None, _unless("N", "as wide as the hidden layer")] = None
    """Width of the embedding; 0: one-hot inputs."""
    dropout: float = 0.0
    """Probability of dropping a unit: of the embedding, between layers, before the head."""
    tied: bool = False
    """Share the embedding's table with the head."""
    initial: Literal["zeros", "random", "learnable"] = "zeros"
    """The state that a stream starts from."""
    init: Literal["torch", "orthogonal", "identity"] = "torch"
    """Where the recurrent weights start."""
    forget_bias: Annotated[float | None, _unless("X", "as --init has it")] = None
    """Start of the bias of the gate that keeps memory (lstm: f, gru: z)."""
    chrono: Annotated[int | None, _unless("N", "not done")] = None
    """Longest lag that matters, in steps: gate biases are spread to match (chrono initialisation)."""

    def build(self, vocabulary_size: int) -> LanguageModel:
        """The language model, its weights drawn from torch's global generator."""
        if self.activation is not None and self.cell != "rnn":
            raise InputError(
                f"--activation {self.activation} is given with --cell {self.cell}; expected --cell rnn, the only one whose "
                f"activation is free."
            )
        _check.positive("--hidden", self.hidden, most=_WIDEST)
        _check.positive("--layers", self.layers, most=_DEEPEST)
        if self.embedding is not None and self.embedding != 0:
            _check.positive("--embedding", self.embedding, most=_WIDEST, remedy="0 means one-hot inputs.")
        _check.fraction("--dropout", self.dropout)
        if self.forget_bias is not None:
            _check.at_least("--forget-bias", self.forget_bias, -1e6)
        if self.chrono is not None:
            _check.positive("--chrono", self.chrono)
        rules = [nn.TorchUniform(), *_INITIALISERS[self.init]]
        rules += [] if self.forget_bias is None else [nn.ForgetBias(self.forget_bias)]
        rules += [] if self.chrono is None else [nn.Chrono(self.chrono)]
        try:
            return LanguageModel(
                vocabulary_size,
                cell=self.build_cell(),
                hidden_size=self.hidden,
                num_layers=self.layers,
                embedding_size=self.embedding,
                dropout=self.dropout,
                tied=self.tied,
                initial=_INITIALS[self.initial],
                initialisers=rules,
            )
        except NotImplementedError as error:
            raise InputError(str(error)) from None

    def build_cell(self) -> cells.AbstractCell:
        """The recurrent cell."""
        match self.cell:
            case "rnn":
                return cells.Elman(_ACTIVATIONS[self.activation or "tanh"])
            case "gru":
                return cells.GRU()
            case "lstm":
                return cells.LSTM()

    def check_memory(self, vocabulary_size: int, batch_size: int, window: int) -> None:
        """Refuse sizes that this machine cannot hold: weights, gradients and moments, and what one window keeps."""
        with torch.device("meta"):
            model = self.build(vocabulary_size)
        weights = 4 * sum(p.numel() for p in model.parameters())
        kept_a_step = self.layers * self.hidden * (2 * model.recurrence.cell.gates + 3) + 2 * vocabulary_size
        _check.memory(
            4 * weights + 4 * kept_a_step * batch_size * window,
            f"training {weights // 4:,} weights with {batch_size} streams of {window} steps",
            "Lower --hidden, --layers, --vocab-size, --batch-size or --bptt.",
        )


OptimiserName = Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"]


@final
@dataclass(frozen=True)
class OptimiserOptions:
    """The optimiser, its schedule, and clipping."""

    optimizer: OptimiserName = "adam"
    """The rule that turns gradients into steps."""
    lr: Annotated[float | None, _unless("X", "adam, adamw and rmsprop 0.002; adagrad 0.01; sgd 1")] = None
    """Learning rate."""
    momentum: float = 0.0
    """Momentum of sgd and rmsprop."""
    weight_decay: float = 0.0
    """Weight decay (adamw: decoupled; the others: added to the gradient)."""
    schedule: Literal["constant", "linear", "cosine", "exponential"] = "constant"
    """How the learning rate falls: not, in a line or a half cosine to a hundredth at the end, or by a factor every epoch."""
    warmup: int = 0
    """Steps over which the learning rate first rises from 0."""
    decay: float = 0.97
    """The exponential schedule's factor."""
    decay_after: int = 10
    """The exponential schedule starts after this many epochs."""
    clip: float = 1.0
    """The gradient's global norm is scaled down to this; 0: never."""
    clip_value: float = 0.0
    """Each element of the gradient is clamped to plus or minus this, before the norm is; 0: never."""
    clip_step: float = 0.0
    """At each time step the gradient that travels back is scaled down to this norm; 0: never."""
    omega: float = 0.0
    """The weight of Pascanu's regulariser, which keeps a simple network's gradient from vanishing; 0: none."""

    def check(self) -> None:
        """Refuse numbers that mean nothing."""
        if self.lr is not None:
            _check.above_zero("--lr", self.lr)
        if self.momentum and self.optimizer not in ("sgd", "rmsprop"):
            raise InputError(f"--momentum is given with --optimizer {self.optimizer}; expected sgd or rmsprop, the only ones that take it.")
        _check.fraction("--momentum", self.momentum)
        for name in ("weight_decay", "warmup", "decay_after", "clip", "clip_value", "clip_step", "omega"):
            _check.at_least(f"--{name.replace('_', '-')}", getattr(self, name), 0)
        if not 0 < self.decay <= 1:
            raise InputError(f"--decay is {self.decay!r}; expected a factor in (0, 1].")

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
    """Streams side by side: the text is cut into this many."""
    bptt: int = 64
    """The window of truncated backpropagation through time, in steps; with --gradient, the steps between two updates of the weights."""
    gradient: Annotated[str | None, _unless("METHOD[:OPTION=VALUE,...]", "truncated to --bptt steps")] = None
    """How the gradient is found, such as full, truncated:k1=16,k2=64, sliding:lags=32; another name lists them all."""
    epochs: Annotated[int | None, _unless("N", "10, if neither --steps nor --minutes is")] = None
    """Stop after this many passes over the text."""
    steps: Annotated[int | None, _unless("N")] = None
    """Stop after this many steps."""
    minutes: Annotated[float | None, _unless("X")] = None
    """Stop after this much time."""
    eval_every: Annotated[int | None, _unless("N", "an epoch, or 2000 if that is less")] = None
    """Steps between validations."""
    eval_tokens: int = 200_000
    """A validation reads at most this many symbols; the one at the end ten times as many, and throughtime evaluate all."""
    save_every: float = 60.0
    """Seconds between saves of the whole state, which also is saved at every validation."""
    seed: int = 0
    """Of the weights, dropout and random initial states."""
    threads: Annotated[int | None, _unless("N", "torch's own choice")] = None
    """Threads of torch."""
    kernels: Kernels = "fast"
    """The packed kernels wherever they can serve, or the plain loop everywhere."""
    device: str = "cpu"
    """Where to compute: cpu, cuda, cuda:1, mps."""
    watch_flow: int = 0
    """Every so many steps, measure how far back the gradient reaches; 0: never. At 200 it costs about 2 % of the time."""

    def check(self) -> None:
        """Refuse numbers that mean nothing."""
        _check.positive("--batch-size", self.batch_size)
        _check.positive("--bptt", self.bptt)
        budgets = {k: v for k, v in (("--epochs", self.epochs), ("--steps", self.steps), ("--minutes", self.minutes)) if v is not None}
        if len(budgets) > 1:
            raise InputError(
                f"{' and '.join(budgets)} are given together; expected one of --epochs, --steps, --minutes. Leave out the others."
            )
        for name, value in budgets.items():
            _check.above_zero(name, value)
        if self.eval_every is not None:
            _check.positive("--eval-every", self.eval_every)
        _check.at_least("--eval-tokens", self.eval_tokens, 2)
        _check.at_least("--save-every", self.save_every, 0)
        _check.seed(self.seed)
        if self.threads is not None:
            _check.positive("--threads", self.threads, most=1024)
        _check.at_least("--watch-flow", self.watch_flow, 0)
        device(self.device)


def device(name: str) -> torch.device:
    """A torch device that is there.

    Raises:
        InputError: torch does not know it, or this machine has none.
    """
    try:
        found = torch.device(name)
        if found.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError(f"throughtime does not know {found.type}")
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"--device is {name!r}, which cannot be used here ({reason:.80}); expected cpu, or cuda or mps where there is one."
        ) from None
    return found


@final
@dataclass(frozen=True)
class TextRun:
    """All that is chosen of a language model's training run: ``config.json``."""

    text: TextOptions
    network: NetworkOptions
    optimiser: OptimiserOptions
    loop: LoopOptions

    def check(self) -> None:
        """Refuse numbers that mean nothing, before anything is read or made."""
        self.optimiser.check()
        if self.optimiser.omega and self.network.cell != "rnn":
            raise InputError(
                f"--omega is given with --cell {self.network.cell}; expected --cell rnn, the simple network that it is defined for. "
                "What keeps a gated cell's gradient alive is its memory gate: --forget-bias or --chrono."
            )
        self.loop.check()
        self.gradient()
        self.text.source()

    def gradient(self) -> AbstractGradient:
        """How dL/dθ is found."""
        method = TruncatedBPTT(self.loop.bptt) if self.loop.gradient is None else method_of(self.loop.gradient)
        method = with_clip(method, self.optimiser.clip_step)
        return WithOmega(method, self.optimiser.omega) if self.optimiser.omega else method
