"""``throughtime info``: what is running here."""

import platform

import torch
from rich.console import Console

from .._version import __version__
from ..cells import GRU
from ..kernels import architecture, architectures, cache_about, compiler_about, serves
from ._app import Call
from ._data import named_data
from ._table import show_facts
from ._verbs import Info


def info(chosen: Info, call: Call) -> int:
    """The verb."""
    show_facts(Console(), facts())
    return 0


def facts() -> dict[str, str]:
    """What a bug report should tell."""
    devices = ["cpu"] + [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "throughtime": __version__,
        "torch": torch.__version__,
        "python": f"{platform.python_version()} on {platform.platform()}",
        "devices": ", ".join(devices + (["mps"] if torch.backends.mps.is_available() else [])),
        "threads": str(torch.get_num_threads()),
        "kernels": kernels(),
        "own cells": own_cells(),
        "data sets": named_data(),
    }


def own_cells() -> str:
    """Where the kernels of cells of one's own are kept, and who compiles them."""
    return f"{cache_about()}; {compiler_about()}"


def kernels() -> str:
    """Which kernels serve, and why where it is not the packed ones."""
    if (why := serves(GRU(), torch.empty(0))) != "fast":
        return why
    return f"fast: packed for {architecture()} (this machine can run {', '.join(architectures())}), your own cells when first used"
