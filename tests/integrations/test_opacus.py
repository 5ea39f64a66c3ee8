"""Opacus on accelerated models: its own layers are put in as into torch's model, and a model that still has ours is refused at once."""

import pytest
import torch
from _truth import assert_close
from torch import nn

opacus = pytest.importorskip("opacus")
pytestmark = pytest.mark.filterwarnings("ignore")

from opacus.grad_sample import GradSampleModule  # noqa: E402 not without opacus
from opacus.validators import ModuleValidator  # noqa: E402

import throughtime as tt  # noqa: E402

B, T, I, H = 4, 6, 3, 5


class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn, self.head = kind(I, H, batch_first=True), nn.Linear(H, 2)

    def forward(self, xs):
        return self.head(self.rnn(xs)[0][:, -1])


def accelerated(kind):
    return tt.accelerate(Net(kind), report=lambda done: None)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_its_own_layers_are_put_in_and_have_the_gradient_of_each_sample(kind):
    net, xs = accelerated(kind), torch.randn(B, T, I)
    private = ModuleValidator.fix(net)
    assert type(private.rnn).__name__ == f"DP{kind.__name__}"
    assert isinstance(net.rnn, tt.nn.Layers), "the given model stays as it is"
    samples = GradSampleModule(private, loss_reduction="sum")
    samples(xs).square().sum().backward()
    for b in range(B):
        net.zero_grad()
        net(xs[b : b + 1]).square().sum().backward()
        wanted = {name: p.grad for name, p in net.named_parameters()}
        assert_close({name: p.grad_sample[b] for name, p in private.named_parameters()}, wanted)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_ours_are_refused_at_once_with_the_way_out(kind):
    with pytest.raises(NotImplementedError, match=r"this is one of throughtime's. Expected model = opacus.validators.ModuleValidator.fix"):
        GradSampleModule(accelerated(kind))
    net = accelerated(kind)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(8, T, I), torch.randn(8, 2)), batch_size=4)
    with pytest.raises(NotImplementedError, match="DPRNN has to be put in by hand"):
        opacus.PrivacyEngine().make_private(
            module=net,
            optimizer=torch.optim.SGD(net.parameters(), 0.1),
            data_loader=loader,
            noise_multiplier=1.0,
            max_grad_norm=1.0,
        )


def test_as_torch_is_what_opacus_says_of_torch():
    """Its validator goes by the exact class."""
    net = accelerated(nn.LSTM)
    with tt.as_torch(net):
        assert ["DPLSTM" in str(error) for error in ModuleValidator.validate(net, strict=False)] == [True]
