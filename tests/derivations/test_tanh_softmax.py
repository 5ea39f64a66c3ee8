"""*Back Propagation Through Time* (it begins "The formula of recurrent neural network"): tanh, softmax, cross-entropy.

The text's equations have no numbers; here they are named by what they give, in the text's order. Its letters:

    U = weight_ih (H, I)    W = weight_hh (H, H)    V = the head's weight (V, H)    s_t = h_t    z_t = V s_t = o_t

Slips in the text, met below:
    * The total loss E is written E_t(y, ŷ), as if it were that of one step.
    * s_3 = tanh(U x_t + W s_2) has x_t for x_3.
    * The sum Σ_{k=0}^{3} has four terms and its expansion three: s_0 does not depend on W, so the term of k = 0 is zero.
    * ∂s_w in the expansion stands for ∂W, and ∂s_k/∂W for the immediate derivative, in which s_{k−1} is held fast.
    * ∏_{j=k+1}^{3} ∂s_j/∂s_{j−1}, read from left to right, puts the factors in the wrong order: the latest stands on the left.
"""

from dataclasses import dataclass
from functools import reduce

import pytest
import torch
from _literal import Weights, differs, immediate, network, one_stream, only, product, same, weights
from torch import Tensor

from throughtime.cells import Elman, Tanh
from throughtime.data import Batch
from throughtime.gradients import FullBPTT, TruncatedBPTT

T, I, H, V = 5, 4, 3, 6


@dataclass
class Text:
    """The formulas as the text has them, for one sequence."""

    w: Weights
    xs: Tensor  # (T, I)
    ys: Tensor  # (T, V) distributions

    def __post_init__(self) -> None:
        U, self.W, self.V = self.w.weight_ih, self.w.weight_hh, self.w.weight_out
        self.x, self.y = [None, *self.xs], [None, *self.ys]
        self.s, self.y_hat = [self.w.initial[0]], [None]
        for t in range(1, T + 1):
            self.s.append(torch.tanh(U @ self.x[t] + self.W @ self.s[t - 1]))  # s_t = tanh(U x_t + W s_{t−1})
            z = self.V @ self.s[t]
            self.y_hat.append(z.exp() / z.exp().sum())  # ŷ_t = softmax(V s_t)

    def E(self, t):
        return -(self.y[t] * self.y_hat[t].log()).sum()  # E_t = −y_t log ŷ_t

    def dE_dy_hat(self, t):
        return -self.y[t] / self.y_hat[t]  # (V,)

    def dy_hat_dz(self, t):
        return self.y_hat[t].diag() - self.y_hat[t].outer(self.y_hat[t])  # (V, V)

    def dy_hat_ds(self, t):
        return self.dy_hat_dz(t) @ self.V  # (V, H)

    def ds_ds_before(self, j):
        return (1 - self.s[j] ** 2).diag() @ self.W  # ∂s_j/∂s_{j−1} (H, H)

    def ds_ds(self, t, k):
        """∂s_t/∂s_k = ∏_{j=k+1}^{t} ∂s_j/∂s_{j−1}, the latest factor on the left."""
        return reduce(lambda below, j: self.ds_ds_before(j) @ below, range(k + 1, t + 1), torch.eye(H))

    def ds_dW(self, k):
        return immediate((1 - self.s[k] ** 2).diag(), self.s[k - 1]) if k > 0 else torch.zeros(H, H, H)

    def ds_dU(self, k):
        return immediate((1 - self.s[k] ** 2).diag(), self.x[k]) if k > 0 else torch.zeros(H, H, I)

    def term(self, t, k, ds_dθ):
        """∂E_t/∂ŷ_t · ∂ŷ_t/∂s_t · ∂s_t/∂s_k · ∂s_k/∂θ."""
        row = self.dE_dy_hat(t) @ self.dy_hat_ds(t) @ self.ds_ds(t, k)  # (H,)
        return torch.tensordot(row, ds_dθ(k), 1)

    def dE_dθ(self, t, ds_dθ):
        return sum(self.term(t, k, ds_dθ) for k in range(t + 1))  # Σ_{k=0}^{t}

    def dE_dV(self, t):
        return (self.y_hat[t] - self.y[t]).outer(self.s[t])  # (ŷ_t − y_t) ⊗ s_t


def case(seed: int = 0):
    model = network(Elman(Tanh()), I, H, V, seed=seed)
    chance = torch.Generator().manual_seed(seed + 100)
    xs = torch.randn(T, I, generator=chance)
    ys = torch.rand(T, V, generator=chance).softmax(1)
    return model, Text(weights(model), xs, ys), xs, ys


def test_states_outputs_and_losses():
    model, text, xs, ys = case()
    batch = one_stream(xs, ys)
    hs, _ = model.recurrence(model.embed(batch))
    same(hs[:, 0], torch.stack(text.s[1:]))  # s_t = tanh(U x_t + W s_{t−1})
    same(model.head.predict(hs)[:, 0], torch.stack(text.y_hat[1:]))  # ŷ_t = softmax(V s_t)
    same(model.losses(hs, batch)[:, 0], torch.stack([text.E(t) for t in range(1, T + 1)]))  # E_t = −y_t log ŷ_t
    same(product(model, batch)[0], sum(text.E(t) for t in range(1, T + 1)))  # E = Σ_t E_t


@pytest.mark.parametrize("method", [FullBPTT(), TruncatedBPTT(T), TruncatedBPTT(2, T)], ids=str)
def test_gradients_are_sums_over_time(method):
    """∂E/∂W = Σ_t ∂E_t/∂W, and the same for U and V."""
    model, text, xs, ys = case()
    _, got = product(model, one_stream(xs, ys), method)
    steps = range(1, T + 1)
    same(got.weight_hh, sum(text.dE_dθ(t, text.ds_dW) for t in steps))
    same(got.weight_ih, sum(text.dE_dθ(t, text.ds_dU) for t in steps))
    same(got.weight_out, sum(text.dE_dV(t) for t in steps))


@pytest.mark.parametrize("t", range(1, T + 1))
def test_the_loss_of_one_step(t):
    """What the text does for E_3, at every t: ∂E_t/∂W and ∂E_t/∂U as sums over k of products of ∂s_j/∂s_{j−1}."""
    model, text, xs, ys = case()
    loss, got = product(model, one_stream(xs, ys, weights=only(t, T)))
    same(loss, text.E(t))
    same(got.weight_hh, text.dE_dθ(t, text.ds_dW))
    same(got.weight_ih, text.dE_dθ(t, text.ds_dU))
    same(got.weight_out, text.dE_dV(t))


def test_dE3_dV_is_the_chain_rule_and_only_of_the_current_step():
    """∂E_3/∂V = ∂E_3/∂ŷ_3 · ∂ŷ_3/∂z_3 · ∂z_3/∂V = (ŷ_3 − y_3) ⊗ s_3; nothing of it is older than t = 3, given s_3."""
    model, text, xs, ys = case()
    chain = (text.dE_dy_hat(3) @ text.dy_hat_dz(3)).outer(text.s[3])
    _, got = product(model, one_stream(xs, ys, weights=only(3, T)))
    same(got.weight_out, chain)
    _, one_lag = product(model, one_stream(xs, ys, weights=only(3, T)), TruncatedBPTT(1))  # goes back no step at all
    same(one_lag.weight_out, chain)
    differs((text.y[3] - text.y_hat[3]).outer(text.s[3]), chain)  # the sign: it is ŷ − y


def test_dE3_dW_by_the_total_derivative():
    """∂E_3/∂W = ∂E_3/∂ŷ_3 · ∂ŷ_3/∂s_3 · ∂s_3/∂W, in which s_2 may not be held fast: it depends on W too."""
    model, text, xs, ys = case()
    _, got = product(model, one_stream(xs, ys, weights=only(3, T)))
    total = torch.zeros(H, H, H)  # s_0 does not depend on W
    for t in (1, 2, 3):
        total = text.ds_dW(t) + torch.tensordot(text.ds_ds_before(t), total, 1)
    row = text.dE_dy_hat(3) @ text.dy_hat_ds(3)
    same(got.weight_hh, torch.tensordot(row, total, 1))
    differs(torch.tensordot(row, text.ds_dW(3), 1), got.weight_hh)  # s_2 "as constant value"


def test_dE3_dW_written_out():
    """The expansion of Σ_{k=0}^{3}: its three terms, k = 3, 2, 1; the fourth, k = 0, is zero."""
    model, text, xs, ys = case()
    _, got = product(model, one_stream(xs, ys, weights=only(3, T)))
    row = text.dE_dy_hat(3) @ text.dy_hat_ds(3)
    J3, J2 = text.ds_ds_before(3), text.ds_ds_before(2)
    terms = [
        torch.tensordot(row, text.ds_dW(3), 1),
        torch.tensordot(row @ J3, text.ds_dW(2), 1),
        torch.tensordot(row @ J3 @ J2, text.ds_dW(1), 1),  # ∂s_3/∂s_1 = ∂s_3/∂s_2 · ∂s_2/∂s_1
    ]
    same(got.weight_hh, sum(terms))
    assert not text.term(3, 0, text.ds_dW).any()
    for k, term in zip((3, 2, 1), terms, strict=True):
        same(term, text.term(3, k, text.ds_dW))
    out_of_order = torch.tensordot(row @ J2 @ J3, text.ds_dW(1), 1)  # ∏_{j=2}^{3} from left to right
    differs(terms[0] + terms[1] + out_of_order, got.weight_hh)


def test_each_product_of_jacobians_is_the_gradient_that_arrives_at_s_k():
    """∂E_3/∂s_k = ∂E_3/∂ŷ_3 · ∂ŷ_3/∂s_3 · ∏_{j=k+1}^{3} ∂s_j/∂s_{j−1}, by starting the model at s_k."""
    model, text, xs, ys = case()
    for k in (0, 1, 2):
        model.recurrence.initial.data[0, 0] = text.s[k]
        _, got = product(model, one_stream(xs[k:3], ys[k:3], weights=only(3 - k, 3 - k)))
        same(got.initial[0], text.dE_dy_hat(3) @ text.dy_hat_ds(3) @ text.ds_ds(3, k))


def test_a_batch_of_streams_adds_up():
    """The text has one sequence; of a batch of them the gradients are summed."""
    model, first, xs, ys = case()
    chance = torch.Generator().manual_seed(7)
    others = torch.randn(T, I, generator=chance)
    second = Text(first.w, others, ys.flip(0))
    batch = Batch(torch.stack((xs, others), 1), torch.stack((ys, ys.flip(0)), 1))
    _, got = product(model, batch)
    same(got.weight_hh, sum(text.dE_dθ(t, text.ds_dW) for t in range(1, T + 1) for text in (first, second)))


def test_why_the_gradient_vanishes():
    """Since 0 < tanh′ ≤ 1, ‖∂s_t/∂s_k‖ ≤ ‖W‖^(t−k): with ‖W‖ < 1 the term of a far k is small, whatever the inputs."""
    model, text, _, _ = case()
    norm = torch.linalg.matrix_norm(text.W, 2)
    for t in range(1, T + 1):
        for k in range(t):
            assert torch.linalg.matrix_norm(text.ds_ds(t, k), 2) <= norm ** (t - k)
    model.recurrence.weight_hh_l0.data.mul_(0.5 / norm)
    long = torch.randn(40, I, generator=torch.Generator().manual_seed(3))
    ys = torch.full((40, V), 1 / V)
    _, near = product(model, one_stream(long[:1], ys[:1], weights=only(1, 1)))
    _, far = product(model, one_stream(long, ys, weights=only(40, 40)))
    ceiling = torch.linalg.matrix_norm(text.V, 2) * 2**0.5 * 0.5**40  # ‖ŷ − y‖ ≤ √2
    assert 0 < far.initial.norm() <= ceiling < near.initial.norm()
