"""Models with stations of their own × every gradient method × gradient flow: equal to the definition, or refused with the reason.

Three stations stand by name so that a method can stand between them: ``embed``, ``recurrence``, ``losses``. A method that takes a short
cut past one of them finds the gradient of another model, and says nothing. What must be true of each pair: the gradient is that of the
model as it is written, found by the oracle through the model's own stations; or a NotImplementedError that names the station.
"""

import re

import pytest
from _gradients import DEFINED, DRAWN
from _models import OWN, own
from _oracle import whole_past
from _past import calls, language_model, ragged, text, vector_model, vectors
from _tables import first
from _truth import assert_close, rounding

import throughtime as tt
from throughtime.cells import GRU
from throughtime.gradients import FullBPTT
from throughtime.nn import Learnable, Random, Zeros

REASON = re.compile(r"embed|losses|recurrence|station")


def unless_refused(find):
    """What is found, or None where the method refuses and names the station."""
    try:
        return find()
    except NotImplementedError as refusal:
        if not REASON.search(str(refusal)):
            raise
        return None


def agrees_or_refuses(row, model, batch) -> None:
    got = unless_refused(lambda: calls(row.method, model, [batch])[0])
    if got is not None:
        assert_close(got, row.definition(model, [batch]))


@pytest.mark.parametrize("row", DEFINED, ids=str)
@pytest.mark.parametrize("kind", OWN, ids=lambda kind: kind.__name__)
def test_a_model_of_ones_own(kind, row):
    model, batch = own(kind, row.cells[-1], row.layers)
    agrees_or_refuses(row, model, ragged(batch))


@pytest.mark.parametrize("row", DRAWN, ids=str)
@pytest.mark.parametrize("kind", OWN, ids=lambda kind: kind.__name__)
def test_a_model_of_ones_own_by_drawing(kind, row):
    """One step of each stream has no past: the loss, and the head's gradient, are exact whatever is drawn."""
    model, batch = own(kind, GRU(), row.layers)
    one = batch.steps(0, 1)
    got = unless_refused(lambda: calls(row.method, model, [one])[0])
    if got is not None:
        exactly = [n for n, (name, _) in enumerate(model.named_parameters()) if name.startswith("head")]
        wanted = whole_past(model, [one])
        assert_close([got[n] for n in (*exactly, -1)], [wanted[n] for n in (*exactly, -1)])


@pytest.mark.parametrize("initial", [Learnable(), *first([], [Random(), Zeros()])], ids=str)
@pytest.mark.parametrize("row", DEFINED, ids=str)
def test_a_recurrence_of_ones_own(row, initial):
    """Three layers where the method takes them, without biases, and any start."""
    if row.layers == 1 or type(row.method).__name__ == "WithOmega":
        model = vector_model(row.cells[-1], row.layers, initial=initial)
    else:
        model = vector_model(row.cells[-1], 3, bias=False, initial=initial)
    batch = vectors(6)
    state = tuple(s.detach() for s in model.initial_state(batch.B)) if isinstance(initial, Random) else None
    if state is not None:  # one draw for both
        model.initial_state = lambda batch_size: state
    agrees_or_refuses(row, model, batch)


@pytest.mark.parametrize("kind", [*OWN, None], ids=lambda kind: getattr(kind, "__name__", "library"))
def test_flow_sees_the_model_as_it_is(kind):
    """The gradients by lag add up to the gradient that the oracle finds through the model's own stations."""
    model, batch = (language_model(GRU(), 2), text()) if kind is None else own(kind, GRU(), 2)
    names = [name for name, _ in model.named_parameters()]
    flow = unless_refused(lambda: tt.gradient_flow(model, batch, tensors=names, jacobians=None, gates=False))
    if flow is not None:
        *wanted, _ = whole_past(model, [batch])
        assert_close([flow.lags.tensors[name].sum(0) for name in names], wanted, rounding(condition=10.0))  # lags of opposite signs


@pytest.mark.parametrize("kind", OWN, ids=lambda kind: kind.__name__)
def test_full_bptt_is_not_refused(kind):
    """Or the contract would hold for a library that refuses everything."""
    model, batch = own(kind, GRU(), 2)
    assert_close(calls(FullBPTT(), model, [batch])[0], whole_past(model, [batch]))
