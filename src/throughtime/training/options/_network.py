"""The recurrent network, and what a text's network adds to it."""

from dataclasses import dataclass
from typing import Annotated, Literal, final

from ... import _numbers
from ..._errors import InputError
from ..flag import Flag

CELLS = ("rnn", "gru", "lstm")
GALLERY = (  # cells.zoo.NAMES, which imports torch
    "mgu", "ugrnn", "coupled-lstm", "peephole-lstm", "ctrnn", "cfc", "star", "nbrc", "gru-reset-before", "ei", "indrnn", "mingru",
    "minlstm", "sru", "elstm", "lem", "cornn", "unicornn",
)  # fmt: skip
WIDEST, _DEEPEST = 1_000_000, 1000  # a configuration is a stranger's word: nothing is built beyond


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
    bidirectional: Annotated[bool, Flag(rare=True)] = False
    """Read each sequence in both directions (train labels alone: elsewhere the second direction would have seen what is predicted)."""
    dropout: float = 0.0
    """Probability of dropping a unit: of the network's input, between layers, before the head."""
    input_dropout: Annotated[float | None, Flag("X", "as --dropout", rare=True)] = None
    """Probability of dropping a number of the network's input."""
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
        _numbers.positive("`hidden`", self.hidden, most=WIDEST)
        _numbers.positive("`layers`", self.layers, most=_DEEPEST)
        _numbers.fraction("`dropout`", self.dropout)
        if self.input_dropout is not None:
            _numbers.fraction("`input_dropout`", self.input_dropout)
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
            _numbers.positive("`embedding`", self.embedding, most=WIDEST, remedy="0 means one-hot inputs.")
        if self.tied and self.embedding not in (None, self.hidden):
            raise InputError(
                f"`tied` is given with `embedding={self.embedding}` and `hidden={self.hidden}`; expected an embedding table to share, as "
                "wide as the hidden layer. Leave `tied` or `embedding` out."
            )
