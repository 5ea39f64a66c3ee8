"""What onnxruntime computes from an exported file is what the model computes."""

import builtins

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from _tables import Coupled, bump

import throughtime as tt
from throughtime import LanguageModel, SequenceModel
from throughtime.cells import GRU, LSTM, Elman, Identity, Relu, Sigmoid
from throughtime.cells.zoo import ResetBeforeGRU
from throughtime.models import (
    AbstractInput,
    BinaryCrossEntropy,
    Embedding,
    Head,
    Linear,
    OneHot,
    SigmoidOutput,
    SquaredError,
    Vectors,
)
from throughtime.nn import AbstractInitial, Given, Learnable, Random, Recurrence, Zeros

CELLS = [Elman(), Elman(Relu()), Elman(Sigmoid()), Elman(Identity()), GRU(), LSTM()]
V, I, H = 6, 3, 7


def session(model, path) -> onnxruntime.InferenceSession:
    tt.export_onnx(model, path)
    onnx.checker.check_model(str(path), full_check=True)
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3  # a warning says that inputs with a default are no constants, which is meant
    quiet.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), quiet, providers=["CPUExecutionProvider"])


def truth(model, inputs, state=None):
    """o and the states in evaluation mode, in float64 from the same float32 weights."""
    model.double().eval()
    try:
        with torch.no_grad():
            xs = model.input(inputs if inputs.dtype == torch.long else inputs.double())
            hs, after = model.recurrence(xs, None if state is None else tuple(s.double() for s in state))
            return [model.head(hs), *after]
    finally:
        model.float().train()


def assert_same(model, got, wanted, T: int):
    """Rounding alone. A product sum of I + H + 2 terms of size about 1 is off by at most (I + H + 2) eps, an activation and the
    gates' few operations by 8 eps more; weights of ±1/√H pass an error on without growth; L layers and T steps add them up, and so
    does the head.
    """
    stack = model.recurrence
    tolerance = np.finfo(np.float32).eps * (stack.input_size + stack.hidden_size + 10) * (T * stack.num_layers + 1)
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == np.float32
        assert a.shape == tuple(b.shape)
        assert np.abs(a - b.numpy()).max() <= tolerance


def random_state(model, B: int):
    stack = model.recurrence
    return tuple(torch.randn(stack.num_layers, B, stack.hidden_size).float() for _ in range(stack.cell.states))


def feed(inputs, state=()) -> dict[str, np.ndarray]:
    name = "tokens" if inputs.dtype == torch.long else "inputs"
    return {name: inputs.numpy(), **{f"{s}_in": v.numpy() for s, v in zip("hc", state, strict=False)}}


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_language_models(cell, num_layers, tmp_path):
    """Every T and B of one file, from the model's own start and from any state."""
    model = LanguageModel(V, cell=cell, hidden_size=H, num_layers=num_layers, embedding_size=4, dropout=0.5).float()
    run = session(model, tmp_path / "model.onnx")
    for T, B in [(1, 1), (9, 1), (1, 8), (7, 5)]:
        tokens = torch.randint(V, (T, B))
        assert_same(model, run.run(None, feed(tokens)), truth(model, tokens), T)
        state = random_state(model, B)
        assert_same(model, run.run(None, feed(tokens, state)), truth(model, tokens, state), T)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("cell", [*CELLS, ResetBeforeGRU()], ids=str)
def test_sequence_models(cell, bias, tmp_path):
    """Vectors in, real numbers out, with and without biases everywhere."""
    stack = Recurrence(cell, I, H, num_layers=2, bias=bias)
    model = SequenceModel(Vectors(I), stack, Head(H, V, bias=bias, output=Linear(), loss=SquaredError())).float()
    run = session(model, tmp_path / "model.onnx")
    assert [o.name for o in run.get_outputs()] == ["outputs", "h_out", "c_out"][: 1 + cell.states]
    for T, B in [(1, 1), (8, 3)]:
        inputs, state = torch.randn(T, B, I).float(), random_state(model, B)
        assert_same(model, run.run(None, feed(inputs, state)), truth(model, inputs, state), T)


@pytest.mark.parametrize("H", [1, 8, 17])
@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM()], ids=str)
def test_hidden_sizes(cell, H, tmp_path):
    model = LanguageModel(V, cell=cell, hidden_size=H, embedding_size=1).float()
    tokens = torch.randint(V, (9, 2))
    assert_same(model, session(model, tmp_path / "m.onnx").run(None, feed(tokens)), truth(model, tokens), 9)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_sequence_in_pieces_is_the_whole(cell, tmp_path):
    """Streaming: h_out, c_out of a piece are h_in, c_in of the next, a single step included."""
    model = LanguageModel(V, cell=cell, hidden_size=H, num_layers=2).float()
    run = session(model, tmp_path / "model.onnx")
    tokens = torch.randint(V, (9, 3))
    state, outputs = (), []
    for piece in tokens.split([1, 5, 2, 1]):
        o, *after = run.run(None, feed(piece, state))
        outputs.append(o)
        state = tuple(torch.from_numpy(s) for s in after)
    assert_same(model, [np.concatenate(outputs), *(s.numpy() for s in state)], truth(model, tokens), 9)


@pytest.mark.parametrize("station", [Embedding(V, I), OneHot(V)], ids=lambda s: type(s).__name__)
def test_indices_come_in_either_way(station, tmp_path):
    model = SequenceModel(station, Recurrence(GRU(), station.size, H), Head(H, 2, output=SigmoidOutput(), loss=BinaryCrossEntropy()))
    tokens = torch.randint(V, (4, 3))
    run = session(model.float(), tmp_path / "model.onnx")
    assert [o.name for o in run.get_outputs()] == ["logits", "h_out"]
    assert_same(model, run.run(None, feed(tokens)), truth(model, tokens), 4)


@pytest.mark.parametrize("initial", [Zeros(), Learnable(), Given(torch.randn(2, 2, H))], ids=lambda rule: type(rule).__name__)
def test_the_models_own_start_is_the_default(initial, tmp_path):
    """The same numbers for every stream; one state (L, 1, H) that a caller passes serves every stream too."""
    model = LanguageModel(V, cell=LSTM(), hidden_size=H, num_layers=2, initial=initial).float()
    if initial.learnable:
        torch.nn.init.normal_(model.recurrence.initial)
    run = session(model, tmp_path / "model.onnx")
    assert [i.name for i in run.get_inputs()] == ["tokens"]
    assert [i.name for i in run.get_overridable_initializers()] == ["h_in", "c_in"]
    tokens = torch.randint(V, (5, 4))
    assert_same(model, run.run(None, feed(tokens)), truth(model, tokens), 5)
    one = random_state(model, 1)
    assert_same(model, run.run(None, feed(tokens, one)), truth(model, tokens, tuple(s.expand(-1, 4, -1) for s in one)), 5)


class Ones(AbstractInitial):
    """A user's rule, which may be anything."""

    def make(self, shape, like):
        return like.new_ones(shape)


@pytest.mark.parametrize("initial", [Random(), Ones()], ids=lambda rule: type(rule).__name__)
def test_a_start_drawn_anew_must_be_passed(initial, tmp_path):
    model = LanguageModel(V, hidden_size=H, initial=initial).float()
    run = session(model, tmp_path / "model.onnx")
    assert [i.name for i in run.get_inputs()] == ["tokens", "h_in"]
    tokens, state = torch.randint(V, (5, 4)), random_state(model, 4)
    assert_same(model, run.run(None, feed(tokens, state)), truth(model, tokens, state), 5)


def test_what_the_file_says_of_itself(tmp_path):
    model = LanguageModel(V, cell=LSTM(), hidden_size=H, num_layers=2, embedding_size=4).float()
    tt.export_onnx(model, tmp_path / "model.onnx", about={"vocabulary": "abcdef"})
    proto = onnx.load(tmp_path / "model.onnx")
    assert (proto.producer_name, proto.producer_version) == ("throughtime", tt.__version__)
    assert {p.key: p.value for p in proto.metadata_props} == {
        "throughtime": tt.__version__,
        "cell": "LSTM()",
        "layers": "2",
        "hidden_size": "7",
        "input_size": "4",
        "outputs": "6",
        "output_function": "Softmax()",
        "initial_state": "Zeros",
        "vocabulary": "abcdef",
    }
    shape = lambda value: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
    assert {v.name: shape(v) for v in (*proto.graph.input, *proto.graph.output)} == {
        "tokens": ["T", "B"],
        "h_in": [2, "B_or_1", 7],
        "c_in": [2, "B_or_1", 7],
        "logits": ["T", "B", 6],
        "h_out": [2, "B", 7],
        "c_out": [2, "B", 7],
    }


def test_a_tied_table_is_stored_once(tmp_path):
    model = LanguageModel(V, hidden_size=H, tied=True).float()
    tokens = torch.randint(V, (5, 4))
    assert_same(model, session(model, tmp_path / "m.onnx").run(None, feed(tokens)), truth(model, tokens), 5)
    tables = [i.name for i in onnx.load(tmp_path / "m.onnx").graph.initializer if tuple(i.dims) == (V, H)]
    assert tables == ["input.weight"]


def test_export_leaves_the_model_as_it_was(tmp_path):
    model = LanguageModel(V, hidden_size=H, dropout=0.5).float().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    tt.export_onnx(model, tmp_path / "a.onnx")
    tt.export_onnx(model, tmp_path / "b.onnx")
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]


class Doubled(AbstractInput):
    """A user's station."""

    size = I

    def forward(self, inputs):
        return 2 * inputs


def sequence(*, cell=GRU(), station=None, output=Linear()):  # noqa: B008  frozen dataclasses
    return SequenceModel(station or Vectors(I), Recurrence(cell, I, H), Head(H, V, output=output, loss=SquaredError())).float()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (sequence(cell=Coupled()), r"no recurrent operator for the cell Coupled\(\); GRU\(\), LSTM\(\), Elman.* can be exported"),
        (
            sequence(cell=Elman(bump)),
            r"no recurrent operator for the cell Elman.*bump.*Elman\(activation=Tanh\(\)\), .*Identity\(\)\), zoo.ResetBeforeGRU\(\) can be exported",
        ),
        (sequence(station=Doubled()), "the input station Doubled cannot be exported; Embedding, OneHot and Vectors can"),
        (sequence(output=torch.tanh), r"the output function .*tanh.* cannot be exported; .*Build the head with Linear\(\)"),
    ],
    ids=["cell", "activation", "station", "output"],
)
def test_what_onnx_cannot_say(model, message, tmp_path):
    with pytest.raises(NotImplementedError, match=message):
        tt.export_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written(tmp_path, monkeypatch):
    model = LanguageModel(V, hidden_size=H)
    with pytest.raises(tt.InputError, match=r"weights are torch.float64; expected torch.float32, .* Export model.float\(\)"):
        tt.export_onnx(model, tmp_path / "model.onnx")
    model.float()
    with pytest.raises(tt.InputError, match=r"missing is no folder; expected one to write model.onnx to"):
        tt.export_onnx(model, tmp_path / "missing" / "model.onnx")
    (tmp_path / "there").touch()
    with pytest.raises(tt.InputError, match="there is there already; expected a new file"):
        tt.export_onnx(model, tmp_path / "there")
    monkeypatch.setattr("throughtime.models.onnx.MOST_BYTES", 1000)
    with pytest.raises(tt.InputError, match=r"weights take 0.0 GiB; expected less than 2 GiB, the most that one ONNX file holds"):
        tt.export_onnx(model, tmp_path / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


def test_without_the_package(tmp_path, monkeypatch):
    importing = builtins.__import__

    def without_onnx(name, globals=None, locals=None, fromlist=(), level=0):
        if name == "models.onnx":
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")
        return importing(name, globals, locals, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    with pytest.raises(tt.InputError, match=r"the package onnx is not installed; .* pip install 'throughtime\[onnx\]'"):
        tt.export_onnx(LanguageModel(V, hidden_size=H).float(), tmp_path / "model.onnx")


def test_sampling_from_the_file_is_sampling_from_the_model(tmp_path):
    """Greedy, a symbol at a time, as a runtime elsewhere would."""
    model = LanguageModel(V, cell=LSTM(), hidden_size=16).float()
    run = session(model, tmp_path / "model.onnx")
    tokens, state, drawn = np.array([[2]]), {}, []
    for _ in range(20):
        o, h, c = run.run(None, {"tokens": tokens, **state})
        tokens, state = o[-1:].argmax(-1), {"h_in": h, "c_in": c}
        drawn.append(int(tokens.item()))
    assert drawn == list(model.sample([2], 20, temperature=0.0))
