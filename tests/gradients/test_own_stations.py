"""Models that say by themselves what a station does: used as they are by every method, or refused with the reason."""

import pytest
import torch
from _truth import assert_close

from throughtime import gradients as g, nn
from throughtime.cells import GRU, Leaky
from throughtime.data import Batch
from throughtime.flow import gradient_flow
from throughtime.models import AbstractModel, Embedding, Head, Linear, SquaredError, Vectors

I, H, V, T, B = 3, 4, 2, 7, 2


class Scaled(AbstractModel):
    """Its own embed, without parameters: twice the vectors."""

    def __init__(self):
        super().__init__()
        stack = nn.Recurrence(Leaky(0.5), I, H)
        self._set_stations(Vectors(I), stack, Head(H, V, output=Linear(), loss=SquaredError()), dropout=0.0, reduction="sum")

    def embed(self, batch):
        return 2 * super().embed(batch)


class Mixed(Scaled):
    """Its own embed, with parameters of its own."""

    def __init__(self):
        super().__init__()
        self.mix = torch.nn.Linear(I, I)

    def embed(self, batch):
        return torch.tanh(self.mix(batch.inputs))


class Looked(Scaled):
    """Its own embed over a table so small that the rows would enter by themselves."""

    def __init__(self):
        super().__init__()
        self.input = Embedding(2, I)

    def embed(self, batch):
        return -self.input(batch.inputs)


class Penalised(Scaled):
    """Its own losses: the head's, and a term that the head knows nothing of."""

    def losses(self, hs, batch):
        return super().losses(hs, batch) + 0.1 * hs.square().sum(2)


class Foreign(Scaled):
    """Its own recurrence: any module from (xs, state) to (hs, state)."""

    class Loop(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = torch.nn.GRUCell(I, H)

        def forward(self, xs, state):
            hs, h = [], state[0][0]
            for x in xs:
                h = self.cell(x, h)
                hs.append(h)
            return torch.stack(hs), (h.unsqueeze(0),)

    def __init__(self):
        super().__init__()
        self.recurrence = self.Loop()

    def initial_state(self, batch_size):
        return (torch.zeros(1, batch_size, H),)


EXACT = [
    g.FullBPTT(),
    g.TruncatedBPTT(3, 100),
    g.TruncatedBPTT(100),
    g.CheckpointedBPTT(every=3),
    g.SlidingBPTT(T),
    g.RTRL(),
    g.BlockRTRL(3),
    g.SnAp(50),
]
EXACT += [g.AdaptiveBPTT(1e-12, T), g.AdaptiveBPTT(1e-12, T, k1=1)]
OTHERS = [
    g.RandomTruncatedBPTT(3.0),
    g.UORO(),
    g.KFRTRL(),
    g.RFLO(),
    g.RFLO(g.Symmetric()),
    g.EProp(),
    g.EProp(g.RandomFeedback()),
    g.SnAp(1),
]
FORWARD = (g.RTRL, g.BlockRTRL, g.SnAp, g.UORO, g.KFRTRL, g.RFLO, g.EProp)
MODELS = [Scaled, Mixed, Looked, Penalised, Foreign]


def batch_for(model: AbstractModel) -> Batch:
    inputs = torch.randint(2, (T, B)) if isinstance(model, Looked) else torch.randn(T, B, I)
    return Batch(inputs, torch.randn(T, B, V))


def by_hand(model, batch):
    """dL/dθ by autograd through the stations as the model says them."""
    model.zero_grad()
    hs, _ = model.recurrence(model.embed(batch), model.initial_state(B))
    model.losses(hs, batch).sum().backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


def refuses(model, method) -> bool:
    if isinstance(model, Mixed | Looked):
        return isinstance(method, FORWARD)
    if isinstance(model, Foreign):
        return not isinstance(method, g.FullBPTT | g.TruncatedBPTT)
    with_feedback = isinstance(method, g.RFLO | g.EProp) and isinstance(method.feedback, g.RandomFeedback)
    return isinstance(model, Penalised) and with_feedback


@pytest.mark.parametrize("method", EXACT + OTHERS, ids=str)
@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_a_method_takes_the_station_as_it_is_or_says_why_not(kind, method):
    model = kind()
    batch = batch_for(model)
    if refuses(model, method):
        with pytest.raises(NotImplementedError, match=r"Build the model on|would do|Symmetric\(\) differentiates"):
            method.accumulate(model, batch)
        return
    wanted = by_hand(model, batch)
    model.zero_grad()
    outcome = method.accumulate(model, batch)
    found = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(found) == len(wanted)
    hs, _ = model.recurrence(model.embed(batch), model.initial_state(B))
    assert_close([outcome.loss], [model.losses(hs, batch).sum().detach()])
    if method in EXACT:
        assert_close(found, wanted)


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_flow_too(kind):
    model = kind()
    batch = batch_for(model)
    if kind is Foreign:
        with pytest.raises(NotImplementedError, match="Build the model on"):
            gradient_flow(model, batch)
        return
    flow = gradient_flow(model, batch, jacobians=None)
    assert flow.lags.error < 1e-12
    wanted = dict(zip([n for n, _ in model.named_parameters()], by_hand(model, batch), strict=True))
    assert flow.lags.gradient == pytest.approx({n: float(x.norm()) for n, x in wanted.items()})


def test_windows_of_a_foreign_recurrence_are_the_definitions():
    model = Foreign()
    batch = batch_for(model).steps(0, 6)
    model.zero_grad()
    g.TruncatedBPTT(3).accumulate(model, batch)
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    state = model.initial_state(B)
    for start in (0, 3):
        window = batch.steps(start, start + 3)
        hs, state = model.recurrence(model.embed(window), tuple(s.detach() for s in state))
        model.losses(hs, window).sum().backward()
    assert_close(found, [p.grad for p in model.parameters() if p.grad is not None])
    with pytest.raises(NotImplementedError, match="clip the gradient's norm instead"):
        g.TruncatedBPTT(3, clip_adjoint=1.0).accumulate(model, batch)


def test_an_initial_state_of_ones_own():
    class Warm(Scaled):
        def __init__(self):
            super().__init__()
            self.warmth = torch.nn.Parameter(torch.randn(H))

        def initial_state(self, batch_size):
            return (self.warmth.expand(1, batch_size, H),)

    model = Warm()
    batch = batch_for(model)
    wanted = by_hand(model, batch)
    for method in EXACT:
        model.zero_grad()
        if isinstance(method, FORWARD):
            with pytest.raises(NotImplementedError, match=r"behind Warm.initial_state"):
                method.accumulate(model, batch)
        else:
            method.accumulate(model, batch)
            assert_close([p.grad for p in model.parameters()], wanted)


def test_gru_is_as_good_as_leaky_for_what_does_not_need_leaky_units():
    model = Scaled()
    model.recurrence = nn.Recurrence(GRU(), I, H, num_layers=2)
    batch = batch_for(model)
    wanted = by_hand(model, batch)
    for method in EXACT:
        model.zero_grad()
        method.accumulate(model, batch)
        assert_close([p.grad for p in model.parameters() if p.grad is not None], wanted)
