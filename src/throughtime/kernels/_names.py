"""The names of cells in the schema of ``torch.ops.throughtime``, whose operators take a cell as a string."""

from ..cells import AbstractCell
from . import generated
from ._table import BY_NAME, known


def name_of(cell: AbstractCell) -> str:
    """The name of a cell that has a kernel."""
    if (row := known(cell)) is not None:
        return row.name
    return generated.name(cell)


def named(name: str) -> AbstractCell:
    """The cell of a name."""
    return BY_NAME[name].cell if name in BY_NAME else generated.BY_NAME[name].cell
