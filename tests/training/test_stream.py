"""``Stream``: step by step what the layer, the model or the run gives for the whole sequence."""

import copy
import pickle
import threading

import numpy as np
import pytest
import torch
from _rounding import assert_close, path, rounding
from torch import nn

import throughtime as tt
from throughtime import cells, models, nn as own
from throughtime.nn import CalledSteps
from throughtime.training import train

T, B, I, H = 6, 3, 4, 5
CLOSE = rounding(path(T, I + H, 2))
OWN_CELLS = [cells.GRU(), cells.LSTM(), cells.Elman(cells.Relu()), cells.Elman(torch.sin)]


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)


def pushed(stream, xs):
    return torch.stack([stream.push(x) for x in xs])


LAYERS = {
    "rnn": lambda: tt.RNN(I, H, 2, nonlinearity="relu"),
    "gru": lambda: tt.GRU(I, H, 2, dropout=0.5, bias=False),
    "lstm": lambda: tt.LSTM(I, H, 2),
    "torch's": lambda: nn.LSTM(I, H, 2, dropout=0.5),
    "sigmoid": lambda: tt.RNN(I, H, nonlinearity="sigmoid"),
    "own activation": lambda: tt.RNN(I, H, nonlinearity=torch.sin),
    "projection": lambda: tt.LSTM(I, H, 2, proj_size=3),
    "normalised": lambda: tt.LSTM(I, H, layer_norm=True),
    "zoneout": lambda: tt.GRU(I, H, zoneout=0.3),
    "variational": lambda: tt.GRU(I, H, recurrent_dropout=0.3),
    "learned": lambda: tt.LSTM(I, H, 2, learn_h0=True),
    "batch first": lambda: tt.GRU(I, H, batch_first=True, state_batch_first=True),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer(name):
    layer, xs = LAYERS[name](), torch.randn(T, B, I)
    for p in layer.parameters():
        p.data = torch.randn_like(p) / 2
    stream = tt.Stream(layer, B)
    ys, state = pushed(stream, xs), stream.state
    with torch.no_grad():
        hs, last = layer.eval()(xs.transpose(0, 1) if layer.batch_first else xs)
    wanted = hs.transpose(0, 1) if layer.batch_first else hs
    last = last if isinstance(last, tuple) else (last,)
    last = tuple(s.transpose(0, 1) for s in last) if name == "batch first" else last
    assert_close([ys, *state], [wanted, *last], CLOSE)
    stream.reset()
    assert torch.equal(pushed(stream, xs), ys)
    called = name in ("own activation", "projection", "normalised", "zoneout")
    assert isinstance(stream._steps, CalledSteps) == called


@pytest.mark.parametrize("cell", OWN_CELLS, ids=["gru", "lstm", "relu", "sin"])
def test_a_stack_and_a_model(cell):
    stack = own.Recurrence(cell, I, H, num_layers=2, dropout=0.5, initial=own.Learnable())
    stack.initial.data.normal_()
    head = models.Head(H, 2, output=models.Linear(), loss=models.SquaredError())
    model, xs = models.SequenceModel(models.Vectors(I), stack, head, dropout=0.5), torch.randn(T, B, I)
    with torch.no_grad():
        wanted = [stack.eval()(xs)[0], model.eval()(xs)[0]]
    model.train()
    assert_close([pushed(tt.Stream(stack, B), xs), pushed(tt.Stream(model, B), xs)], wanted, CLOSE)


@pytest.mark.parametrize("embedding", [None, 0], ids=["embedding", "one-hot"])
def test_a_language_model_reads_indices(embedding):
    model, ids = tt.LanguageModel(7, hidden_size=H, num_layers=2, embedding_size=embedding), torch.randint(7, (T, B))
    stream = tt.Stream(model, B)
    wanted = model(ids)[0].detach()
    assert_close([pushed(stream, ids)], [wanted], CLOSE)
    stream.reset()
    assert_close([pushed(stream, ids.int())], [wanted], CLOSE)
    with pytest.raises(tt.InputError, match="7"):
        stream.push(torch.full((B,), 7))
    distributions = torch.rand(T, B, 7).softmax(-1)
    stream.reset()
    assert_close([pushed(stream, distributions)], [model(distributions)[0].detach()], CLOSE)


def test_an_embedding_of_ones_own():
    class Scaled(models.AbstractModel):
        def __init__(self):
            super().__init__()
            head = models.Head(H, 2, output=models.Linear(), loss=models.SquaredError())
            self._set_stations(models.Vectors(I), own.Recurrence(cells.GRU(), I, H), head, dropout=0.0, reduction="mean")
            self.factor = nn.Parameter(torch.tensor(3.0))

        def embed(self, batch):
            return self.factor * super().embed(batch)

    class Other(Scaled):
        def forward(self, inputs, state=None):
            return super().forward(inputs, state)

    model, xs = Scaled(), torch.randn(T, B, I)
    assert_close([pushed(tt.Stream(model, B), xs)], [model(xs)[0].detach()], CLOSE)
    with pytest.raises(NotImplementedError, match=r"Other has a forward of its own.*recurrence"):
        tt.Stream(Other())


def test_a_run(make_run, console):
    torch.set_default_dtype(torch.float32)
    run = make_run()
    train(run, console=console)
    trained = tt.load(run.path)
    ids = torch.tensor(trained.vocabulary.encode("the cat"))
    with torch.no_grad():
        wanted = trained.model(ids.unsqueeze(1))[0][:, 0]
    for source in (trained, run.path, str(run.path), trained.model):
        stream = tt.Stream(source)
        assert_close([pushed(stream, ids)], [wanted], rounding(path(len(ids), 30), dtype=torch.float32))


def test_numpy_in_numpy_out():
    layer, xs = tt.GRU(I, H), np.random.default_rng(0).normal(size=(T, B, I))
    stream, one = tt.Stream(layer, B), tt.Stream(layer)
    for x in xs:
        y = stream.push(x)
        assert isinstance(y, np.ndarray)
        assert_close([torch.from_numpy(one.push(x[0]))], [torch.from_numpy(y[0])], CLOSE)
    assert one.push(xs[0][:1]).shape == (1, H)
    assert stream.push(np.asfortranarray(xs[0])).shape == (B, H)
    language = tt.Stream(tt.LanguageModel(7, hidden_size=H))
    assert language.push(np.array(3)).shape == language.push(3).shape == (7,)


def test_one_stream_is_set_back_and_the_others_go_on():
    layer, xs = tt.LSTM(I, H, 2), torch.randn(T, B, I)
    stream = tt.Stream(layer, B)
    pushed(stream, xs[:3])
    before = stream.state
    stream.reset([False, True, False])
    assert all(torch.equal(s[:, [0, 2]], b[:, [0, 2]]) and not s[:, 1].any() for s, b in zip(stream.state, before, strict=True))
    reset = torch.zeros(T, B, dtype=torch.bool)
    reset[3, 1] = True
    assert_close([pushed(stream, xs[3:])], [layer(xs, reset=reset)[0][3:].detach()], CLOSE)
    stream.state = before
    assert_close([pushed(stream, xs[3:])], [layer(xs)[0][3:].detach()], CLOSE)


@pytest.mark.parametrize("source", [tt.LSTM, tt.RNN], ids=["packed", "called"])
def test_a_copy_goes_on_alone(source):
    layer = source(I, H) if source is tt.LSTM else source(I, H, nonlinearity=torch.sin)
    stream, xs = tt.Stream(layer, B), torch.randn(T, B, I)
    pushed(stream, xs[:3])
    others = [copy.deepcopy(stream), pickle.loads(pickle.dumps(stream))]
    wanted = pushed(stream, xs[3:])
    for other in others:
        assert torch.equal(pushed(other, xs[3:]), wanted)


def test_what_comes_out_stays_as_it_is():
    stream, x = tt.Stream(tt.GRU(I, H), B), torch.randn(B, I, requires_grad=True)
    first = stream.push(x)
    kept = first.clone()
    stream.push(x)
    assert torch.equal(first, kept)
    assert not first.requires_grad
    state = stream.state
    state[0].zero_()
    assert stream.state[0].any()


def test_half_precision_and_other_types_are_called():
    layer = tt.GRU(I, H).bfloat16()
    x = torch.randn(B, I, dtype=torch.bfloat16)
    assert torch.equal(tt.Stream(layer, B).push(x), layer(x[None])[0][0].detach())


def test_plain_kernels_are_called():
    layer, xs = tt.GRU(I, H), torch.randn(T, B, I)
    tt.set_kernels("plain")
    try:
        stream = tt.Stream(layer, B)
        assert isinstance(stream._steps, CalledSteps)
        assert_close([pushed(stream, xs)], [layer(xs)[0].detach()], CLOSE)
    finally:
        tt.set_kernels("fast")


def test_streams_in_two_threads():
    layer, xs = tt.LSTM(I, H), torch.randn(200, B, I)
    wanted, wrong = pushed(tt.Stream(layer, B), xs), []

    def work() -> None:
        if not torch.equal(pushed(tt.Stream(layer, B), xs), wanted):
            wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_many_streams_on_two_threads_of_the_kernels():
    layer, xs = tt.GRU(64, 256), torch.randn(3, 17, 64)
    tt.set_threads(2)
    try:
        ys = pushed(tt.Stream(layer, 17), xs)
        one = pushed(tt.Stream(layer), xs[:, 3])
    finally:
        tt.set_threads(None)
    wanted = layer(xs)[0].detach()
    assert_close([ys, one], [wanted, wanted[:, 3]], rounding(path(3, 320)))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tt.Stream(tt.GRU(I, H, bidirectional=True)), NotImplementedError, "GRU is bidirectional: .*bidirectional=False"),
        (lambda: tt.Stream(nn.Linear(2, 3)), tt.InputError, "the model is a Linear; expected an RNN"),
        (lambda: tt.Stream("/no/such/run"), tt.InputError, "/no/such/run"),
        (lambda: tt.Stream(tt.GRU(I, H), 0), tt.InputError, "streams is 0"),
        (lambda: tt.Stream(tt.GRU(I, H), B).push(torch.zeros(B + 1, I)), tt.InputError, r"shape \(4, 4\); expected 3 stream"),
        (lambda: tt.Stream(tt.GRU(I, H), B).push(torch.zeros(I)), tt.InputError, "expected 3 stream"),
        (lambda: tt.Stream(tt.GRU(I, H)).push(torch.zeros(1, I + 1)), tt.InputError, r"\(1, 5\); expected torch.float64 \(1, 4\)"),
        (lambda: tt.Stream(tt.GRU(I, H)).push(np.zeros(I, np.float32)), tt.InputError, r"float32 .*astype"),
        (lambda: tt.Stream(tt.GRU(I, H)).push(torch.zeros(())), tt.InputError, "expected"),
        (lambda: tt.Stream(tt.GRU(I, H), B).reset([True]), tt.InputError, r"streams has shape \(1,\); expected \(3,\)"),
        (lambda: setattr(tt.Stream(tt.GRU(I, H), B), "state", (torch.zeros(1, 2, H),)), tt.InputError, "shapes"),
    ],
)  # fmt: skip
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
