"""What a newcomer hands in by mistake gets a sentence, at the border: got, expected, remedy."""

import numpy as np
import pytest
import torch

import throughtime as tt
from throughtime import Batch, InputError, LanguageModel, TokenStream, _check
from throughtime.nn import Recurrence

pytestmark = pytest.mark.usefixtures("shapes_unchecked")


@pytest.mark.parametrize(
    ("cell", "got"),
    [(tt.cells.GRU, "the class GRU"), ("gru", "'gru'"), (torch.nn.GRU(2, 3), r"GRU\(2, 3\)")],
    ids=["class", "word", "torch"],
)
@pytest.mark.parametrize("make", [lambda cell: LanguageModel(9, cell=cell), lambda cell: Recurrence(cell, 2, 3)], ids=["model", "stack"])
def test_a_cell_is_an_object(make, cell, got):
    with pytest.raises(InputError, match=rf"cell is {got}; expected an object such as cells\.GRU\(\)"):
        make(cell)


@pytest.mark.parametrize("size", ["8", 8.0, True, 0])
def test_a_size_is_named_as_it_was_given(size):
    with pytest.raises(InputError, match=rf"hidden_size is {size!r}; expected an integer from 1"):
        LanguageModel(9, hidden_size=size)


@pytest.mark.parametrize("name", ["dropout", "input_dropout"])
def test_a_dropout_is_a_probability(name):
    with pytest.raises(InputError, match=rf"{name} is 1\.5; expected a number in \[0, 1\)"):
        LanguageModel(9, **{name: 1.5})


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.rand(50), r"tokens are float\d\d of shape \(50,\); expected one row of integers"),
        ([0.5] * 50, "tokens are float64"),
        (torch.arange(50).view(5, 10), r"of shape \(5, 10\); expected one row"),
        ("a text of some fifty characters, or a few more", "tokens is a str; expected ids. Encode it with a vocabulary"),
    ],
    ids=["floats", "list", "rows", "text"],
)
def test_a_stream_is_of_integers(tokens, message):
    with pytest.raises(InputError, match=message):
        TokenStream(tokens, batch_size=2, window=3)


def test_a_stream_of_a_list():
    assert TokenStream(list(range(9)), batch_size=2, window=3)[0].inputs.T.tolist() == [[0, 1, 2], [4, 5, 6]]


@pytest.mark.parametrize(
    ("companions", "message"),
    [
        ({"mask": torch.ones(4, 2).float()}, r"mask is torch\.float32; expected torch\.bool\. Use mask\.bool\(\)"),
        ({"fresh": torch.ones(2).float()}, r"fresh is torch\.float32; expected torch\.bool\. Use fresh\.bool\(\)"),
        ({"mask": [[True, False]] * 4}, r"mask is of type builtins\.list; expected a torch\.Tensor\. Use torch\.as_tensor\(mask\)"),
        ({"inputs": [[0, 1]] * 4}, r"inputs is of type builtins\.list"),
        ({"targets": np.zeros((4, 2), int)}, r"targets is of type numpy\.ndarray"),
    ],
    ids=["float mask", "float fresh", "list mask", "list inputs", "array targets"],
)
def test_a_batch_is_of_tensors(companions, message):
    ids = torch.zeros(4, 2, dtype=torch.long)
    with pytest.raises(InputError, match=message):
        Batch(**{"inputs": ids, "targets": ids, **companions})


@pytest.mark.parametrize("layer", [tt.RNN(3, 5), tt.GRU(3, 5), tt.LSTM(3, 5)], ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("input", [np.zeros((4, 2, 3)), [[0.0]], None], ids=["array", "list", "None"])
def test_a_layer_takes_tensors(layer, input):
    with pytest.raises(InputError, match=rf"the input is of type .*{type(input).__name__}; expected a torch\.Tensor.*as_tensor\(input\)"):
        layer(input)


def test_indices_are_looked_at_where_that_costs_no_wait():
    """On a device whose values would have to be waited for, torch's own lookup answers; ``meta`` has no values at all."""
    _check.indices("inputs", torch.full((3, 2), 99, device="meta"), 9)
    with pytest.raises(InputError, match="inputs has indices from -1 to 99; expected 0 to 8"):
        _check.indices("inputs", torch.tensor([[99], [-1]]), 9)


def test_ids_of_any_integer_type_are_looked_up():
    """A vocabulary's ids are as narrow as they may be, and some of torch's operations know no unsigned types."""
    model, ids = tt.LanguageModel(9, hidden_size=4), torch.tensor([[3], [1], [4]])
    wanted = model(ids)[0]
    for dtype in (torch.uint8, torch.int32, torch.uint16, torch.uint32):
        assert torch.equal(model(ids.to(dtype))[0], wanted)
