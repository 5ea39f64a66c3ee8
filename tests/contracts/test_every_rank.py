"""Several ranks take the steps that one process takes, with every gradient method that the mathematics allows."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from _gradients import DEFINED, DRAWN
from _past import language_model, ragged, text
from _rounding import assert_close, path, rounding
from _tables import first
from _together import together

from throughtime import InputError
from throughtime.cells import GRU
from throughtime.data import AbstractStream, Batch, TokenStream
from throughtime.gradients import RTRL, AdaptiveBPTT, EProp, FullBPTT, TruncatedBPTT, WithOmega
from throughtime.training import ClipNorm, ClipValue, step
from throughtime.training._step import Step

ADDED = [
    *(row for row in DEFINED if row.method.adds_over_streams),
    replace(DEFINED[0], method=FullBPTT(clip_adjoint=1e-3)),
    replace(DEFINED[0], method=TruncatedBPTT(3, 5, clip_adjoint=1e-3)),
]


def stretches() -> list[Batch]:
    """Three calls, the streams of unequal numbers of losses; in the second one of them begins anew, in the third nothing is left out."""
    one, two, three = ragged(text(7)), ragged(text(5, fresh=torch.tensor([False, True, False, False]))), text(6)
    return [one, two, three]


def trained(model, batches, method, ranks=None) -> tuple[list[Step], dict[str, torch.Tensor]]:
    """A step for each batch; the steps, and the last gradient and weights."""
    model = copy.deepcopy(model)
    optimizer, carry, steps = torch.optim.SGD(model.parameters(), 0.1, momentum=0.5), None, []
    for batch in batches:
        mine, more = batch, {}
        if ranks is not None:
            each = batch.B // ranks.size
            mine, more = batch.streams(ranks.rank * each, (ranks.rank + 1) * each), {"ranks": ranks}
        done = step(*(model, mine, carry), gradient=method, clips=[ClipValue(0.05), ClipNorm(0.1)], optimizer=optimizer, **more)
        carry = done.carry
        steps.append(done)
    named = {f"{n}.grad": p.grad for n, p in model.named_parameters() if p.grad is not None}
    return steps, named | {n: p.detach() for n, p in model.named_parameters()}


CASES = [*((row, "mean") for row in ADDED), (ADDED[0], "sum")]
QUICK = [case for case in CASES if case[1] == "sum" or case[0].method in (FullBPTT(1e-3), TruncatedBPTT(3, 5), RTRL(), EProp())]


@pytest.mark.parametrize(("row", "reduction"), first(QUICK, CASES), ids=str)
def test_every_method_takes_the_steps_of_one_process(row, reduction):
    """Three steps with clips. Each feels the rounding of those before it through the weights, and doubles it at the most."""
    cell = GRU() if GRU() in row.cells else row.cells[0]
    model, batches = language_model(cell, row.layers, reduction=reduction), stretches()
    alone, wanted = trained(model, batches, row.method)
    tolerance = 2 ** len(batches) * rounding(path(18, 17, layers=3))
    for size in (2, 4):
        for steps, got in together(size, lambda ranks: trained(model, batches, row.method, ranks)):
            assert_close(got, wanted, tolerance)
            for one, other in zip(steps, alone, strict=True):
                assert math.isclose(one.loss, other.loss, rel_tol=tolerance)
                assert math.isclose(one.norm, other.norm, rel_tol=tolerance)
                assert one.clipped == other.clipped


@pytest.mark.parametrize("row", DRAWN, ids=str)
def test_random_methods_draw_apart_on_every_rank(row):
    """The gradient is the sum of what the ranks find alone, each with its own seed, for the mean over the whole."""
    model, batch = language_model(GRU(), row.layers, reduction="mean"), ragged(text())

    def found(ranks):
        mine, method = copy.deepcopy(model), ranks.method(row.method)
        part = ranks.part(batch.streams(2 * ranks.rank, 2 * ranks.rank + 2))
        alone = copy.deepcopy(model)
        method.accumulate(alone, part)
        loss, _ = method.accumulate(mine, part)
        ranks.add(list(mine.parameters()), loss)
        return method, part.whole, gradients(alone), gradients(mine)

    (one, whole, *lower), (two, _, *upper) = together(2, found)
    assert one == row.method
    assert one.seed != two.seed
    assert whole == batch.counted()
    for got in (lower[1], upper[1]):
        assert_close(got, {name: lower[0][name] + upper[0][name] for name in got})


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("method", [AdaptiveBPTT(0.5, 4), WithOmega(FullBPTT(), 0.5)], ids=str)
def test_methods_that_need_all_streams_say_so(method):
    with pytest.raises(
        InputError, match=r"is AdaptiveBPTT|is WithOmega.* and there are 2 processes; expected a method whose gradient is a sum"
    ):
        together(2, lambda ranks: ranks.method(method))


def test_a_gradient_that_no_rank_has_stays_none():
    """As in one process, where the optimiser leaves such a parameter's moments alone; one that some rank has is everybody's."""

    def found(ranks):
        p, q = (torch.nn.Parameter(torch.ones(2)) for _ in "pq")
        if ranks.rank == 1:
            p.grad = torch.tensor([1.0, 2.0])
        ranks.add([p, q], torch.tensor(0.5))
        return p.grad, q.grad

    for of_p, of_q in together(2, found):
        assert of_p.tolist() == [1.0, 2.0]
        assert of_q is None


def test_an_answer_of_one_rank_is_everybodys():
    def answers(ranks):
        said = ranks.ask(lambda: ranks.rank == 2, lambda: False)
        before = [ask() for ask in said]
        ranks.add([], torch.tensor(0.0))
        return before, [ask() for ask in said]

    assert together(3, answers) == [([False, False], [True, False])] * 3


def test_what_one_rank_cannot_make_is_an_error_of_all():
    def made(ranks):
        def make():
            if ranks.rank == 1:
                raise InputError("no such folder")
            return ranks.rank

        try:
            return ranks.all_or_none(make)
        except InputError as error:
            return str(error)

    assert together(2, made) == ["no such folder (process 1)"] * 2


def test_streams_that_cannot_be_dealt_evenly_are_refused():
    with pytest.raises(InputError, match=r"`batch_size` is 10, for 4 processes; expected a multiple.* Give 8 or 12"):
        together(4, lambda ranks: ranks.each(10))
    with pytest.raises(InputError, match="Give 4, or start"):
        together(4, lambda ranks: ranks.each(3))


class Wrapped(AbstractStream):
    """A stream that does not know how to read a part of itself."""

    def __init__(self, stream):
        self._stream = stream

    def __len__(self):
        return len(self._stream)

    def __getitem__(self, i):
        return self._stream[i]


@pytest.mark.parametrize("whole", [False, True])
def test_the_parts_of_a_stream_side_by_side_are_the_stream(whole):
    stream = TokenStream(torch.arange(103), batch_size=6, window=5, whole=whole)
    for given in (stream, Wrapped(stream)):
        parts = [given.dealt(rank, 3) for rank in range(3)]
        for i in range(2 * len(stream)):
            batch, mine = given.at(i), [part.at(i) for part in parts]
            for field in ("inputs", "targets", "mask", "fresh"):
                if (wanted := getattr(batch, field)) is not None:
                    assert torch.equal(torch.cat([getattr(m, field) for m in mine], min(1, wanted.ndim - 1)), wanted)
