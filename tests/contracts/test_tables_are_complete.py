"""Every public cell, gradient method, model, start and initialiser stands in the table that its contract runs over."""

import inspect

import pytest
from _gradients import DEFINED, DRAWN
from _models import LIBRARY
from _starts import INITIALISERS, INITIALS
from _tables import CELLS

import throughtime as tt
from throughtime.cells import AbstractCell
from throughtime.gradients import AbstractGradient
from throughtime.models import AbstractModel
from throughtime.nn import AbstractInitial, AbstractInitialiser
from throughtime.training.options import GALLERY

TABLES = [
    (AbstractCell, tt.cells, CELLS),
    (AbstractGradient, tt.gradients, [row.method for row in (*DEFINED, *DRAWN)]),
    (AbstractModel, tt.models, LIBRARY),
    (AbstractInitial, tt.nn, INITIALS),
    (AbstractInitialiser, tt.nn, INITIALISERS),
]


def public(family: type, room) -> set[type]:
    found = {thing for name, thing in vars(room).items() if not name.startswith("_") and inspect.isclass(thing)}
    return {thing for thing in found if issubclass(thing, family) and thing is not family}


@pytest.mark.parametrize(("family", "room", "table"), TABLES, ids=[family.__name__ for family, *_ in TABLES])
def test_every_public_member_stands_in_its_table(family, room, table):
    missing = public(family, room) - {type(row) for row in table}
    assert not missing, f"add a row for each of {sorted(m.__name__ for m in missing)}"


def test_the_gallery_is_whole_and_named_at_the_shell():
    assert public(AbstractCell, tt.cells.zoo) == set(tt.cells.zoo.NAMES.values())
    assert tuple(tt.cells.zoo.NAMES) == GALLERY


def test_a_missing_member_is_seen():
    class Room:
        GRU = tt.cells.GRU
        _LSTM = tt.cells.LSTM

    assert public(AbstractCell, Room) == {tt.cells.GRU}
