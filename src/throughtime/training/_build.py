"""What the options of a run stand for: the text, the network, the gradient method, the device."""

import torch

from .. import _check, cells, nn
from .._check import InputError
from ..data import TextSource
from ..gradients import AbstractGradient, TruncatedBPTT, WithOmega
from ..models import LanguageModel
from ._gradients import method_of, with_clip
from .options import NetworkOptions, TextOptions, TextRun

_ACTIVATIONS = {"tanh": cells.Tanh(), "relu": cells.Relu(), "identity": cells.Identity(), "sigmoid": cells.Sigmoid()}
_INITIALS = {"zeros": nn.Zeros(), "random": nn.Random(), "learnable": nn.Learnable()}
_INITIALISERS = {"torch": (), "orthogonal": (nn.Orthogonal(),), "identity": (nn.IdentityMatrix(),)}


def check_run(run: TextRun) -> None:
    """Refuse what means nothing, or cannot be here, before anything is read or made."""
    run.check()
    text_source(run.text)
    gradient_of(run)
    device(run.loop.device)


def text_source(text: TextOptions) -> TextSource:
    """The files and how they are cut."""
    return TextSource(text.files, text.valid, text.test, text.split, text.encoding)


def build_model(network: NetworkOptions, vocabulary_size: int) -> LanguageModel:
    """The language model, its weights drawn from torch's global generator."""
    network.check()
    rules = [nn.TorchUniform(), *_INITIALISERS[network.init]]
    rules += [] if network.forget_bias is None else [nn.ForgetBias(network.forget_bias)]
    rules += [] if network.chrono is None else [nn.Chrono(network.chrono)]
    try:
        return LanguageModel(
            vocabulary_size,
            cell=build_cell(network),
            hidden_size=network.hidden,
            num_layers=network.layers,
            embedding_size=network.embedding,
            dropout=network.dropout,
            tied=network.tied,
            initial=_INITIALS[network.initial],
            initialisers=rules,
        )
    except NotImplementedError as error:
        raise InputError(str(error)) from None


def build_cell(network: NetworkOptions) -> cells.AbstractCell:
    """The recurrent cell."""
    match network.cell:
        case "rnn":
            return cells.Elman(_ACTIVATIONS[network.activation or "tanh"])
        case "gru":
            return cells.GRU()
        case "lstm":
            return cells.LSTM()


def check_memory(network: NetworkOptions, vocabulary_size: int, batch_size: int, window: int) -> None:
    """Refuse sizes that this machine cannot hold: weights, gradients and moments, and what one window keeps."""
    with torch.device("meta"):
        model = build_model(network, vocabulary_size)
    weights = 4 * sum(p.numel() for p in model.parameters())
    kept_a_step = network.layers * network.hidden * (2 * model.recurrence.cell.gates + 3) + 2 * vocabulary_size
    _check.memory(
        4 * weights + 4 * kept_a_step * batch_size * window,
        f"training {weights // 4:,} weights with {batch_size} streams of {window} steps",
        "Lower `hidden`, `layers`, `vocab_size`, `batch_size` or `bptt`.",
    )


def gradient_of(run: TextRun) -> AbstractGradient:
    """How dL/dθ is found."""
    method = TruncatedBPTT(run.loop.bptt) if run.loop.gradient is None else method_of(run.loop.gradient)
    method = with_clip(method, run.optimiser.clip_step)
    return WithOmega(method, run.optimiser.omega) if run.optimiser.omega else method


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
            f"`device` is {name!r}, which cannot be used here ({reason:.80}); expected cpu, or cuda or mps where there is one."
        ) from None
    return found
