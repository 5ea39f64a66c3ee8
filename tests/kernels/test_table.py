"""The one table of cells: whatever the extension and torch know is in it, by the name that they use."""

import pytest
import torch
from _tables import Coupled, bump, name

from throughtime import _kernels
from throughtime.cells import Elman, Leaky, Tanh
from throughtime.kernels._table import BY_NAME, TABLE, known


def test_every_number_of_the_extension_has_a_row():
    numbers = {name: value for name, value in vars(_kernels).items() if name.isupper() and isinstance(value, int)}
    assert {row.name.upper() for row in TABLE} == set(numbers)
    assert len(set(numbers.values())) == len(BY_NAME) == len(TABLE)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_row_is_found_by_its_cell_and_names_what_exists(row):
    assert known(row.cell) is BY_NAME[row.name] is row
    assert row.native is None or callable(getattr(torch, row.native))
    assert sorted(row.onnx.gates) == list(range(row.cell.gates))


@pytest.mark.parametrize("cell", [Coupled(), Elman(bump), Leaky(1.0, Tanh())], ids=name)
def test_a_cell_of_ones_own_has_none(cell):
    assert known(cell) is None
