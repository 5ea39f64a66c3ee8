"""What cannot be measured gets a sentence."""

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

import throughtime as tt
from throughtime import InputError, NonFinite
from throughtime.cells import GRU, AbstractCell
from throughtime.data import Batch
from throughtime.gradients import TruncatedBPTT
from throughtime.models import LanguageModel

V, T, B = 5, 6, 3


def model(**options) -> LanguageModel:
    return LanguageModel(V, hidden_size=4, **options)


def text(**options) -> Batch:
    ids = torch.randint(V, (T + 1, B))
    return Batch(ids[:-1], ids[1:], **options)


def test_no_loss():
    none = torch.zeros(T, B, dtype=torch.bool)
    with pytest.raises(InputError, match=r"no loss counts in the batch.*Choose another batch"):
        tt.gradient_flow(model(), text(mask=none))
    some = ~none
    some[2] = False
    with pytest.raises(InputError, match=r"no loss counts in step 2.*Choose a step that the mask"):
        tt.gradient_flow(model(), text(mask=some), step=2)
    with pytest.raises(InputError, match=r"step is 6; expected one of the batch's, 0 to 5"):
        tt.gradient_flow(model(), text(), step=6)


def test_lags_that_no_loss_has():
    for lag in (6, -1):
        with pytest.raises(InputError, match=rf"max_lag is {lag}, but the batch's last loss stands at step 5.*Give a max_lag from 0 to 5"):
            tt.gradient_flow(model(), text(), max_lag=lag)
    weights = torch.ones(T, B)
    weights[3:] = 0
    with pytest.raises(InputError, match=r"max_lag is 4, but the batch's last loss stands at step 2 of 0 to 5"):
        tt.gradient_flow(model(), text(weights=weights), max_lag=4)


def test_a_module_without_stations():
    with pytest.raises(NotImplementedError, match=r"LSTM does not name them.*models.SequenceModel.*load_state_dict"):
        tt.gradient_flow(nn.LSTM(3, 4), text())


def test_streams_carries_and_names():
    m, batch = model(), text()
    with pytest.raises(InputError, match="stream is 3; expected one of the batch's, 0 to 2"):
        tt.gradient_flow(m, batch, stream=3)
    with pytest.raises(InputError, match=r"batch has B = 3.*Pass model.initial_state\(3\)"):
        tt.gradient_flow(m, batch, carry=m.initial_state(2))
    _, carry = TruncatedBPTT(3, 5).accumulate(m, batch)
    with pytest.raises(InputError, match=r"made by TruncatedBPTT\(k1=3, k2=5.*given to gradient_flow.*Pass carry.state"):
        tt.gradient_flow(m, batch, carry=carry)
    with pytest.raises(InputError, match=r"tensors names 'R'; expected some of .*recurrence.weight_hh_l0"):
        tt.gradient_flow(m, batch, tensors=["R"])


@pytest.mark.parametrize("which", ["recurrence.weight_hh_l0", "head.bias", "input.weight"])
def test_a_weight_that_is_not_finite_is_named(which):
    m = model()
    dict(m.named_parameters())[which].data.view(-1)[1] = torch.nan
    with pytest.raises(NonFinite, match=rf"the weight {which} has numbers that are not finite"):
        tt.gradient_flow(m, text())


class Breaks(AbstractCell):
    """1/0 where the input half is large."""

    gates, states = 1, 1

    def step(self, wx, rh, state):
        return ((wx[:, 0] + rh[:, 0]).tanh() / (wx[:, 0] < 100),)


def test_the_first_step_that_is_not_finite_is_named():
    m = model(cell=Breaks(), num_layers=2, embedding_size=0)
    m.recurrence.weight_ih_l1.data.fill_(0.1)
    m.recurrence.weight_ih_l0.data[:, 1] = 1e3
    ids = torch.zeros(T, B, dtype=torch.long)
    ids[4, 1] = 1
    with pytest.raises(NonFinite, match="the hidden state of layer 0 is not a finite number at step 4 of 6"):
        tt.gradient_flow(m, Batch(ids, ids))
    vectors = torch.randn(T, B, V).softmax(-1)
    vectors[2, 0, 0] = torch.nan
    with pytest.raises(NonFinite, match="the vector that enters the network is not a finite number at step 2 of 6"):
        tt.gradient_flow(model(), replace(text(), inputs=vectors))


def test_a_gradient_beyond_float32_is_measured_in_float64_by_itself():
    m = model(cell=tt.cells.Elman(tt.cells.Identity())).float()
    m.recurrence.weight_hh_l0.data.copy_(100 * torch.eye(4))
    for p in (m.input.weight, m.recurrence.bias_ih_l0, m.recurrence.bias_hh_l0):
        p.data.zero_()
    ids = torch.zeros(30, 2, dtype=torch.long)
    batch = Batch(ids, ids)
    flow = tt.gradient_flow(m, batch)
    assert flow.precision == "float64"
    assert re.fullmatch(r"in float32, the gradient of \S+ is not finite", flow.again)
    assert flow.lags.error < 1e-12
    assert flow.verdict.decay == pytest.approx(100, rel=1e-12)
    assert next(m.parameters()).dtype == torch.float32
    assert all(p.grad is None for p in m.parameters())
    alone = tt.gradient_flow(m, batch, parameters=False, jacobians=None)  # which float32 can hold
    assert (alone.precision, alone.again) == ("float32", "")
    assert alone.verdict.decay == pytest.approx(100, rel=1e-5)


def test_a_cell_whose_derivative_is_wrong_is_found_out():
    """It claims to be elementwise and is not: the lags do not add up, in float64 either, and the verdict says that and nothing else."""

    class Mixed(GRU.__mro__[1]):
        gates, states, elementwise = 1, 1, True

        def step(self, wx, rh, state):
            return ((wx + rh)[:, 0].tanh().cumsum(1) / 2,)

    flow = tt.gradient_flow(model(cell=Mixed()), text(), jacobians=None)
    assert flow.lags.error > 1e-3
    assert flow.verdict.state == "unknown"
    assert f"miss the whole gradient by {flow.lags.error:.2g} of its norm" in flow.verdict.sentence
    assert [a.about for a in flow.verdict.advice] == ["precision"]
    assert "elementwise flag" in flow.verdict.advice[0].sentence


def test_more_than_memory_holds():
    ids = torch.zeros(2_000_000, 1, dtype=torch.long)  # a map of 100 TB
    with pytest.raises(InputError, match=r"the map of 2000000 steps by 2000000 lags takes about .* GiB; .*Give a max_lag"):
        tt.gradient_flow(model(), Batch(ids, ids))
