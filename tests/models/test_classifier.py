"""The classifier of sequences against torch.nn's own layers on packed sequences, in both directions, in value and gradient."""

import json

import pytest
import torch
from _gradients import DEFINED
from _truth import assert_close
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import throughtime as tt
from throughtime import InputError
from throughtime.cells import GRU, LSTM, Elman
from throughtime.data import Batch, labelled
from throughtime.gradients import CheckpointedBPTT, FullBPTT, SlidingBPTT, TruncatedBPTT
from throughtime.models import SequenceClassifier
from throughtime.nn import Bidirectional, Learnable, Padded

T, B, I, H, C = 9, 5, 3, 4, 3
LENGTHS = torch.tensor([9, 4, 1, 7, 9])
TORCH = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM, "rnn": torch.nn.RNN}
CELLS = {"gru": GRU(), "lstm": LSTM(), "rnn": Elman()}


def classifier(each="sequence", *, bidirectional=True, cell="gru", layers=2):
    torch.manual_seed(1)
    options = {"hidden_size": H, "num_layers": layers, "initial": Learnable()}
    model = SequenceClassifier(I, C, each=each, bidirectional=bidirectional, cell=CELLS[cell], **options)
    torch.nn.init.normal_(model.recurrence.initial, 0.0, 0.5)
    return model


def batch(each="sequence"):
    labels = torch.randint(C, (B,)) if each == "sequence" else torch.randint(-1, C, (T, B))
    return labelled(torch.randn(T, B, I), labels, LENGTHS, class_weights=torch.tensor([0.5, 2.0, 1.0]))


def torchs_loss(model, batch, cell):
    """The same loss by torch.nn's layer over packed sequences, and its own cross-entropy."""
    D = 2 if model.bidirectional else 1
    layer = TORCH[cell](I, H, model.recurrence.num_layers, bidirectional=D == 2)
    stored = {name: p for name, p in model.recurrence.named_parameters() if name != "initial"}
    states = [s.expand(-1, B, -1).contiguous() for s in model.recurrence.initial.unsqueeze(2)]
    packed = pack_padded_sequence(batch.inputs, LENGTHS, enforce_sorted=False)
    hs, last = torch.func.functional_call(layer, stored, (packed, tuple(states) if cell == "lstm" else states[0]))
    hs, _ = pad_packed_sequence(hs, total_length=T)
    if model.each == "sequence" and D == 2:
        h = last[0] if cell == "lstm" else last
        hs = torch.cat((h[-2], h[-1]), -1).expand(T, B, 2 * H)  # both directions' last h, which have read everything
    each = torch.nn.functional.cross_entropy(model.head(hs).flatten(0, 1), batch.targets.flatten(), reduction="none").view(T, B)
    return (each * batch.weights * batch.mask).sum() / (batch.weights * batch.mask).count_nonzero()


@pytest.mark.parametrize("bidirectional", [True, False], ids=["both ways", "forward"])
@pytest.mark.parametrize("each", ["sequence", "step"])
@pytest.mark.parametrize("cell", CELLS)
def test_as_torch_on_packed_sequences(cell, each, bidirectional):
    model, data = classifier(each, bidirectional=bidirectional, cell=cell), batch(each)
    for method in (FullBPTT(), TruncatedBPTT(T)):
        model.zero_grad()
        loss, _ = method.accumulate(model, data)
        wanted = torchs_loss(model, data, cell)
        grads = torch.autograd.grad(wanted, list(model.parameters()))
        assert_close([loss, *(p.grad for p in model.parameters())], [wanted, *grads])


@pytest.mark.parametrize("bidirectional", [True, False], ids=["both ways", "forward"])
@pytest.mark.parametrize("each", ["sequence", "step"])
def test_padding_has_no_say(each, bidirectional):
    """Probabilities of padded sequences are those of each one alone, whatever stands in the padding."""
    model, xs = classifier(each, bidirectional=bidirectional), torch.randn(T, B, I)
    for b, n in enumerate(LENGTHS):
        xs[n:, b] = torch.nan
    together = model.probabilities(xs if bidirectional else xs.nan_to_num(7.0), LENGTHS)
    for b, n in enumerate(LENGTHS.tolist()):
        alone = model.probabilities(xs[:n, b : b + 1])
        here = together[b : b + 1] if each == "sequence" else together[:n, b : b + 1]
        assert_close([here], [alone])
    assert model.training


def test_gradient_methods_that_cannot_go_both_ways_say_so():
    """Full BPTT and a window over the whole sequence can; every other method names them."""
    model, data = classifier(), batch()
    for row in DEFINED:
        if isinstance(row.method, FullBPTT) and row.method.clip_adjoint is None:
            continue
        with pytest.raises(NotImplementedError, match=r"Use FullBPTT\(\)"):
            row.method.accumulate(model, data)
    for method in (CheckpointedBPTT(every=20), SlidingBPTT(20)):
        with pytest.raises(NotImplementedError, match="one direction, and a second direction begins at the sequence's end"):
            method.accumulate(model, data)
    with pytest.raises(NotImplementedError, match="gradient_flow goes through time step by step"):
        tt.gradient_flow(model, data)
    _, carry = FullBPTT().accumulate(model, data)
    FullBPTT().accumulate(model, data, carry)  # new sequences: nothing is carried on
    with pytest.raises(NotImplementedError, match="a bidirectional model is to go on with a sequence that began earlier"):
        FullBPTT().accumulate(model, Batch(data.inputs, data.targets), carry)


def test_a_model_from_plain_values_and_what_is_refused():
    config = {"input_size": 3, "classes": 2, "cell": "lstm", "each": "step", "bidirectional": True, "hidden_size": 5}
    model = SequenceClassifier.from_config(json.loads(json.dumps(config)))
    assert (model.classes, model.bidirectional, model.each) == (2, True, "step")
    with pytest.raises(InputError, match="each is 'word'; expected 'sequence' or 'step'"):
        SequenceClassifier.from_config({**config, "each": "word"})
    with pytest.raises(InputError, match="classes is 1; expected at least 2"):
        SequenceClassifier(3, 1)
    xs = torch.zeros(4, 2, 3)
    with pytest.raises(InputError, match=r"labels have shape \(3, 2\); expected \(B,\) = \(2,\), or \(T, B\) = \(4, 2\)"):
        labelled(xs, torch.zeros(3, 2, dtype=torch.long))
    with pytest.raises(InputError, match="a sequence has length 0"):
        labelled(xs, torch.tensor([0, 1]), torch.tensor([4, 0]))
    with pytest.raises(InputError, match="lengths go from 2 to 5; expected 0 to T = 4"):
        labelled(xs, torch.tensor([0, 1]), torch.tensor([2, 5]))
    with pytest.raises(InputError, match="labels go down to -1"):
        labelled(xs, torch.tensor([0, -1]))


@pytest.mark.parametrize("width", [I + 1, I - 1])
def test_inputs_of_another_width_are_refused(width):
    layers = Bidirectional(GRU(), I, H)
    for xs in (torch.zeros(T, B, width), Padded(torch.zeros(T, B, width), LENGTHS)):
        with pytest.raises(InputError, match=rf"xs has shape \({T}, {B}, {width}\); expected \(T, B, {I}\) .*use xs.transpose"):
            layers(xs)


def test_the_same_seed_gives_torchs_weights():
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(I, H, 2, bidirectional=True)
    torch.manual_seed(0)
    ours = Bidirectional(LSTM(), I, H, num_layers=2)
    assert list(dict(ours.named_parameters())) == list(dict(theirs.named_parameters()))
    assert all(torch.equal(p, q) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True))
