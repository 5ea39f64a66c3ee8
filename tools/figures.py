"""The pictures of the documents, and what the examples print: `make figures`. All is measured anew, in some minutes on one core.

flow.png        a character model's flow report, after 300 steps of training on the language reference that Python carries
readme.png      two panels of it
EXAMPLE.png     of every program in examples, and in EXAMPLE.txt what it prints

`python tools/figures.py online accelerate` runs these examples alone.
"""

import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from PIL import Image

import throughtime as tt

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "figures"
EXAMPLES = sorted(program.stem for program in (ROOT / "examples").glob("*.py"))


def trained(steps: int = 300) -> tt.flow.Flow:
    """The flow of a small GRU that has learned a little of a text."""
    torch.manual_seed(0)
    text = "".join(topics.values())
    vocabulary = tt.data.Chars.count([text])
    ids = vocabulary.encode(text)
    stream = tt.TokenStream(ids, batch_size=16, window=64)
    model = tt.LanguageModel(vocabulary.size, cell=tt.cells.GRU(), hidden_size=64)
    optimizer, method, carry = torch.optim.Adam(model.parameters(), 5e-3), tt.gradients.TruncatedBPTT(64), None
    for step in range(steps):
        optimizer.zero_grad()
        _, carry = method.accumulate(model, stream.at(step), carry)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return tt.gradient_flow(model, tt.TokenStream(ids, batch_size=16, window=128)[steps // 2], carry=carry)


def two_panels(flow: tt.flow.Flow) -> Figure:
    """Which past each loss leans on, and what training in windows would miss of the gradient."""
    bias = flow.bias
    assert bias is not None and bias.chunked is not None and bias.overlapping is not None, "they are measured unless told otherwise"  # noqa: PT018
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    values = flow.adjoint.joint.T.nan_to_num(0)
    shown = left.imshow(
        values.where(values > 0, torch.nan), origin="lower", aspect="auto", norm=LogNorm(float(values.max()) * 1e-4, float(values.max()))
    )
    figure.colorbar(shown, ax=left, label="‖∂L$_t$/∂h$_{t−k}$‖")
    left.set(xlabel="step t", ylabel="steps back k", title="which past each loss leans on")
    right.loglog(bias.windows, bias.bias)
    right.loglog(bias.chunked.windows, bias.chunked.bias, "o-")
    right.loglog(bias.overlapping.windows, bias.overlapping.bias, "s-")
    right.text(7, 0.45, "chunks of K steps, the usual form", color="C1")
    right.text(1.05, 0.05, "every loss\nsees K lags", color="C0")
    right.text(1.05, 0.003, "windows of 2 K,\na new one every K", color="C2")
    right.set(xlabel="K", title="the part of the gradient that a window misses", ylim=(1e-7, 1.5))
    right.spines[["top", "right"]].set_visible(False)
    return figure


def save(name: str, figure: Figure, dpi: int = 80) -> None:
    """A small file: a palette of 128 colours is enough for lines and words."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=dpi, facecolor="white")
    keep(name, drawn)


def keep(name: str, drawn: Any) -> None:
    Image.open(drawn).convert("RGB").quantize(128).save(FIGURES / f"{name}.png", optimize=True)


def flows(say: Callable[[str], object] = print) -> None:
    flow = trained()
    say(flow.verdict.sentence)
    save("flow", flow.plot())
    save("readme", two_panels(flow))


def example(name: str) -> None:
    """Run a program, and keep what it prints and draws."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, ROOT / "examples" / f"{name}.py"]
        printed = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
        (FIGURES / f"{name}.txt").write_text(printed, "utf-8")
        for drawn in Path(folder).glob("*.png"):
            keep(drawn.stem, drawn)


if __name__ == "__main__":
    named = sys.argv[1:]
    FIGURES.mkdir(exist_ok=True)
    if not named:
        flows()
    for name in named or EXAMPLES:
        print(name)
        example(name)
