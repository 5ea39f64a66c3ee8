"""The table of docs/torch.md, of what works under which transform, is what a try of each cell of it finds."""

import contextlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__)
PAGE = (HERE.parents[2] / "docs" / "torch.md").read_text()


def cells(table: str) -> dict[tuple[str, int], str]:
    """(option, column) → what stands there."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {(row[0], k): cell for row in rows for k, cell in enumerate(row[1:])}


def tried(*flags: str) -> dict[tuple[str, int], str]:
    """In a process of its own: the checks of shapes in this one are not for torch.compile to see."""
    command = [sys.executable, "-W", "ignore", HERE.with_name("transforms.py"), *flags]
    return cells(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


CLAIMED = cells(re.search(r"(\|[^\n]*gradient of the gradient.*?)\n\n", PAGE, re.DOTALL)[1])


@pytest.mark.slow
def test_our_half_of_the_table_in_float64():
    """All but the last column, of torch.compile, which takes longer than the rest together."""
    last = max(k for _, k in CLAIMED)
    assert tried("--quick") == {at: claim.split(" / ")[0] for at, claim in CLAIMED.items() if at[1] < last}


@pytest.mark.slow
def test_the_table():
    found = tried()
    if not torch.__version__.startswith("2.13"):  # what torch's own do was tried with this one
        found, claimed = ({at: cell.split(" / ")[0] for at, cell in table.items()} for table in (found, CLAIMED))
    else:
        claimed = CLAIMED
    assert found == claimed


@pytest.mark.parametrize("factor", [1.0, 1.001, -1.0])
def test_the_checker_sees_a_gradient_wrong_by_a_thousandth(factor):
    spec = importlib.util.spec_from_file_location("transforms", HERE.with_name("transforms.py"))
    transforms = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(transforms)
    weights = {"a": torch.randn(3, 4), "b": torch.randn(5)}
    function = lambda w: (w["a"].sum() * w["b"]).sin().sum()
    found = {name: factor * g for name, g in torch.func.grad(function)(weights).items()}
    with pytest.raises(AssertionError) if factor != 1 else contextlib.nullcontext():
        transforms.agrees_with_quotients(function, found, weights, torch.float64)
