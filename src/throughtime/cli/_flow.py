"""``throughtime flow``: what the gradient of a trained model does through time."""

import math
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from .. import _check
from .._bar import bar
from .._check import InputError
from .._console import PLAIN, put
from ..data import encode_file
from ..flow import Flow, TrainedBy, gradient_flow
from ..gradients import TruncatedBPTT
from ..training import RunFolder, TextTask, check_new_file, device, method_of, text_windows
from ._app import Call
from ._place import place, usual_steps
from ._table import show_facts
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
    window, task = folder.config.loop.bptt, folder.task()
    model = folder.load_model(task, device(chosen.device))
    steps = chosen.steps or usual_steps(folder)
    with ExitStack() as stack:
        if chosen.data is None:
            name, stream = task.windows(None, streams=chosen.streams, window=steps)
        elif isinstance(task, TextTask):
            aside = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            name, text = chosen.data.name, folder.config.source
            section = encode_file(
                chosen.data, task.vocabulary, aside / "data.bin", chosen.encoding, field=text.field, documents=text.documents
            )
            stream = text_windows(section, name, streams=chosen.streams, window=steps)
        else:
            raise InputError(f"--data is given for a run of train {folder.config.task}; expected its own data alone. Leave it out.")
        batch, state = place(model, stream)
        with bar(Console(stderr=True)) as show:
            show(f"measuring {name}", 0, 1)
            found = gradient_flow(model, batch, carry=state, trained_by=_trained_by(folder))

    def spell(symbol: int) -> str:
        return task.vocabulary.decode([symbol]) if isinstance(task, TextTask) else str(symbol)

    if chosen.html is not None:
        found.to_html(chosen.html, symbols=spell, window=window, title=f"Gradient flow of {folder.path} on {name}", reader="shell")
    if chosen.json:
        print(found.to_json(symbols=spell, window=window))
        return 0
    console = Console()
    put(console, f"{found.verdict.state}: {found.verdict.sentence}")
    show_facts(console, _rows(found))
    for advice in found.verdict.advice:
        put(console, f"• {advice.told('shell')}")
    if chosen.html is not None:
        console.print(f"\npage: {chosen.html}", **PLAIN)
    return 0


def _trained_by(folder: RunFolder) -> TrainedBy:
    """The run's own method and window, its clip at each step and its regulariser left out."""
    loop = folder.config.loop
    method = TruncatedBPTT(loop.bptt) if loop.gradient is None else method_of(loop.gradient)
    return TrainedBy(method, loop.bptt)


def _rows(found: Flow) -> dict[str, str]:
    guess = "" if found.guess is None else f" (guessing costs {found.guess:.3f})"
    rows = {"measured": f"{found.T:,} steps × {found.B:,} streams, loss {found.loss:.4g}{guess}"}
    rows |= {"in float64": f"because {found.again}"} if found.again else {}
    return rows | _reach(found) | (_biases(found) if found.lags.closes else {}) | _norms(found)


def _reach(found: Flow) -> dict[str, str]:
    """How far back the gradient goes, as far as that can be told."""
    verdict, some = found.verdict, found.max_lag > 1 and bool(found.adjoint.profile.any())
    rows = {}
    if math.isfinite(verdict.decay):
        quality = "" if math.isnan(verdict.r_squared) else f" (R² {verdict.r_squared:.2f})"
        rows["decay"] = f"× {verdict.decay:.3g} a step{quality}"
    if some:
        horizon = f"more than {found.max_lag}" if verdict.horizon is None else str(verdict.horizon)
        rows |= {"horizon": f"{horizon} steps until 1 % is left", "half of it": f"within {verdict.half_lag} steps"}
    return rows


def _biases(found: Flow) -> dict[str, str]:
    """What windows miss, and the run's own."""
    bias = found.bias
    if bias is None:
        return {}
    forms = {"sliding": (bias.least, len(bias.windows))}
    forms |= {"in chunks": (bias.chunked.least, int(bias.chunked.windows[-1]))} if bias.chunked is not None else {}
    forms |= {"(k, 2k)": (bias.overlapping.least, int(bias.overlapping.windows[-1]))} if bias.overlapping is not None else {}
    rows = {f"window, {form}": _least(least, most) for form, (least, most) in forms.items()}
    if bias.own is not None:
        rows["the run's own"] = f"{bias.own.words}: bias {bias.own.bias:.2%}, cosine {bias.own.cosine:.4f}"
    return rows


def _least(least: Mapping[float, int | None], most: int) -> str:
    needs = (f"{level * 100:g} % at {f'more than {most}' if k is None else k}" for level, k in least.items())
    return f"bias {', '.join(needs)} steps"


def _norms(found: Flow) -> dict[str, str]:
    rows, jacobians = {}, found.jacobians
    if math.isfinite(found.lags.gradient_norm):
        rows["gradient norm"] = f"{found.lags.gradient_norm:.3g}, parts by lag add up to {found.lags.error:.1e}"
    if jacobians is not None and len(jacobians.exponents) and math.isfinite(float(jacobians.exponents[0])):
        rows["greatest exponent"] = f"{float(jacobians.exponents[0]):.3g} nats a step"
    return rows
