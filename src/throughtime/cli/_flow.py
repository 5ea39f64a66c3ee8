"""``throughtime flow``: what the gradient of a trained model does through time."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from .. import _check
from .._bar import bar
from .._check import InputError
from ..data import Section, TokenStream, encode_file
from ..flow import Flow, gradient_flow
from ..models import LanguageModel
from ..training import RunFolder, check_new_file, device
from ._app import Call
from ._threads import use_threads
from ._verbs import ShowFlow


def flow(chosen: ShowFlow, call: Call) -> int:
    """The verb."""
    use_threads(chosen.threads)
    _check.positive("--streams", chosen.streams, most=4096)
    if chosen.steps is not None:
        _check.positive("--steps", chosen.steps, most=100_000)
    if chosen.html is not None:
        check_new_file(chosen.html)
    folder = RunFolder.open(chosen.run)
    window, vocabulary = folder.config.loop.bptt, folder.vocabulary()
    model = folder.load_model(vocabulary, device(chosen.device))
    with ExitStack() as stack:
        if chosen.data is not None:
            aside = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            name, section = chosen.data.name, encode_file(chosen.data, vocabulary, aside / "data.bin", chosen.encoding)
        else:
            name, section = _held_out(folder)
        with bar(Console(stderr=True)) as show:
            show(f"measuring {name}", 0, 1)
            found = _measure(model, section, name, chosen.steps or 2 * window, chosen.streams)

    def spell(symbol: int) -> str:
        return vocabulary.decode([symbol])

    if chosen.html is not None:
        found.to_html(chosen.html, symbols=spell, window=window, title=f"Gradient flow of {folder.path} on {name}")
    if chosen.json:
        print(found.to_json(symbols=spell, window=window))
        return 0
    console = Console()
    console.print(f"{found.verdict.state}: {found.verdict.sentence}", soft_wrap=True, highlight=False, markup=False)
    console.print(_table(found, window))
    for advice in found.verdict.advice:
        console.print(f"• {advice.sentence}", highlight=False, markup=False)
    if chosen.html is not None:
        console.print(f"\npage: {chosen.html}", soft_wrap=True, highlight=False, markup=False)
    return 0


def _held_out(folder: RunFolder) -> tuple[str, Section]:
    """The run's validation text, or the longest part where that has none."""
    sections = folder.corpus().sections
    name = "valid" if len(sections["valid"].tokens) >= 2 else max(sections, key=lambda name: len(sections[name].tokens))
    return name, sections[name]


def _measure(model: LanguageModel, section: Section, name: str, steps: int, streams: int) -> Flow:
    """Of the second window of the text, with the state that the first one leaves; of the first where there is no second."""
    if (size := len(section.tokens)) < 2:
        raise InputError(f"{name} has {size} symbols; expected at least 2, to predict one. Give a longer text with --data.")
    B = max(1, min(streams, (size - 1) // (2 * steps)))
    stream = TokenStream(section.tokens, batch_size=B, window=steps)
    at = next(model.parameters()).device
    first = stream[0].to(at)
    if stream.steps < 2 * steps:
        return gradient_flow(model, first)
    with torch.no_grad():
        _, state = model.recurrence(model.enter(first))
    return gradient_flow(model, stream[1].to(at), carry=state)


def _table(found: Flow, window: int) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    for name, value in _rows(found, window).items():
        table.add_row(name, value)
    return table


def _rows(found: Flow, window: int) -> dict[str, str]:
    verdict, bias, jacobians = found.verdict, found.bias, found.jacobians
    beyond = f"more than {found.max_lag}"
    rows = {
        "measured": f"{found.T:,} steps × {found.B:,} streams, loss {found.loss:.3f}",
        "decay": f"× {verdict.decay:.3g} a step (R² {verdict.r_squared:.2f})",
        "horizon": f"{beyond if verdict.horizon is None else verdict.horizon} steps until 1 % is left",
        "half of it": f"within {verdict.half_lag} steps",
    }
    if bias is not None:
        needs = (
            f"{level * 100:g} % at {f'more than {len(bias.windows)}' if least is None else least}" for level, least in bias.least.items()
        )
        rows["least window"] = f"bias {', '.join(needs)} steps"
        if window <= len(bias.bias):
            rows["the run's window"] = (
                f"{window} steps: bias {float(bias.bias[window - 1]):.2%}, cosine {float(bias.cosine[window - 1]):.4f}"
            )
        rows["gradient norm"] = f"{found.lags.gradient_norm:.3g}, parts by lag add up to {found.lags.error:.1e}"
    if jacobians is not None and len(jacobians.exponents):
        rows["greatest exponent"] = f"{float(jacobians.exponents[0]):.3g} nats a step"
    return rows
