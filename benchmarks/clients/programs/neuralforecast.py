"""neuralforecast: the usage example of its GRU's and its LSTM's page, as it stands there."""

import functools
from pathlib import Path

import matplotlib as mpl

from ._program import Program


def command(network: str, sources: Path, folder: Path) -> list[str]:
    page = (sources / f"docs/models.{network.lower()}.html.md").read_text("utf-8")
    example = page.split("### Usage Example")[1].split("```python\n")[1].split("```")[0]
    script = folder / "example.py"
    script.write_text(example.replace(f"# from neuralforecast.models import {network}", f"from neuralforecast.models import {network}"))
    mpl.use("agg")
    return [str(script)]


def program(network: str, about: str) -> Program:
    return Program(
        title=f"neuralforecast, {about}",
        repository="Nixtla/neuralforecast",
        commit="5ffa0d0, the package 3.3.0",
        packages=("neuralforecast==3.3.0",),
        differs="nothing" if network == "LSTM" else "its import of GRU, which is a comment there, is made",
        command=functools.partial(command, network),
    )


GRU, LSTM = program("GRU", "GRU 128, two layers, T 24"), program("LSTM", "LSTM 128, two layers, with projections, T 8")
