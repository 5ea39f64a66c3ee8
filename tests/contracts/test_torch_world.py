"""An accelerated model does in torch's world what torch's own does, or more, or says at once what to do instead: row × cell.

``torch_world.py`` has the rows. ``make torch-versions`` runs it with other versions of torch.
"""

import importlib.util
import logging
import sys
from pathlib import Path

import pytest
import torch
from _rounding import path
from _truth import rounding
from torch import nn

import throughtime as tt

HERE = Path(__file__)
spec = importlib.util.spec_from_file_location("torch_world", HERE.with_name("torch_world.py"))
world = importlib.util.module_from_spec(spec)
sys.modules["torch_world"] = world  # where pickle looks for the network
spec.loader.exec_module(world)

# Gradients of two layers over T steps and a head: the longest path of operations, as in the other tests of whole layers. Three steps of
# training, selective checkpoints and norms of weights multiply it by a few; an infinite distance is another shape or type.
TOLERANCE = 4 * rounding(path(world.T, world.H, 2), dtype=torch.float32)

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("shapes_unchecked", "as_users_have_it")]


@pytest.fixture
def as_users_have_it(_float64_and_a_seed):
    """float32, as torch has it by default: some kernels of torch's exist in it alone."""
    torch.set_default_dtype(torch.float32)
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def rows():
    """Every row and cell; quick are the light rows, each for one of the cells, and the worst of old for all."""
    for n, name in enumerate(world.SAME):
        for k, cell in enumerate(world.CELLS):
            quick = name not in world.HEAVY and (k == n % 3 or name == "make_fx")
            yield pytest.param(name, cell, id=f"{name}-{cell}", marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("name", "cell"), list(rows()))
def test_the_same_as_torch(name, cell):
    assert world.try_row(name, world.CELLS[cell]) <= TOLERANCE


def test_the_checker_sees_another_number_shape_and_type():
    net = world.network(nn.GRU, lambda net: None)
    right = list(net.parameters())
    assert world.distance(right, right) == 0
    assert world.distance([1.001 * p for p in right], right) > TOLERANCE
    assert world.distance([p.double() for p in right], right) == world.distance([p[:1] for p in right], right) == float("inf")
    with pytest.raises(ValueError, match=r"shorter|longer"):
        world.distance(right[:-1], right)


@pytest.mark.parametrize("cell", world.CELLS)
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if "export" in name else ()) for name in world.BETTER])
def test_more_than_torch(name, cell):
    row = world.BETTER[name]
    got, wanted = row(world.network(world.CELLS[cell], world.accelerated))
    assert world.distance(got, wanted) <= TOLERANCE
    if (cell, name) != ("RNN", "vmap over inputs"):
        assert world.is_refused(row, world.network(world.CELLS[cell], lambda net: None))


@pytest.mark.parametrize("cell", world.CELLS)
@pytest.mark.parametrize("name", world.REFUSED)
def test_refused_with_the_way_out(name, cell):
    text, row = world.REFUSED[name]
    net = world.network(world.CELLS[cell], world.accelerated)
    with pytest.raises(NotImplementedError, match=text):
        row(net)
    with tt.as_torch(net):
        got = row(net)
    assert isinstance(net.rnn, tt.nn.Layers)
    assert world.distance(got, row(world.network(world.CELLS[cell], lambda net: None))) <= TOLERANCE
