"""*RNN Training with Back Propagation Through Time* (lecture notes): linear output, total derivatives as sums over k.

The text numbers its equations (1)–(28), not without gaps; the lines here bear its numbers. Its letters:

    W_xh = weight_ih (H, I)    W_hh = weight_hh (H, H)    W_hy = the head's weight (m, H)    z = T, the last step

The text leaves J_t open; here it is Σ_k (y_k − ŷ_k)².

Slips in the text, met below:
    * (1) has a sum over all t inside f. The updating equation (5) has none, and is the network.
    * (12) and on write W_xv, W_xu, W_uu, W_uv for W_xh, W_hh, W_hy; and h_0, drawn at random, does not depend on W_xh.
    * (15) has ∂J_2/∂ŷ_k · ∂ŷ_k/∂h_2 for ∂J_2/∂ŷ_2 · ∂ŷ_2/∂h_2. J_2 depends on ŷ_2 alone.
    * (16), the first time, repeats ∂h_k/∂W_xh where ∂h_t/∂h_k should stand; both times it has ŷ_k, h_k for ŷ_t, h_t.
    * (20)'s product, from m = k+1 to t, needs the later factor on the left, as (19) has it.
    * The single neuron: its forward equations are printed as [27], [28] (they come before [24]), and 1 ≤ t ≤ 2 is 1 ≤ t ≤ z.
    * [27] has f′(…)² for f(…)²: tanh′ = 1 − tanh².
    * f′ ∈ [0, 1] is (0, 1]; and a standard normal W_nn is not < 1 for sure (it is with probability 0.84; |W_nn| < 1 with 0.68):
      the product of many factors fades where |f′ W_nn| < 1, and not otherwise.
"""

from dataclasses import dataclass
from functools import reduce

import pytest
import torch
from _literal import Weights, differs, immediate, network, one_stream, only, product, same, weights
from _truth import rounding
from torch import Tensor

from throughtime.cells import Elman, Tanh
from throughtime.models import Linear, SquaredError
from throughtime.nn import Given, Learnable, Random

T, I, H, M = 4, 5, 3, 2


def f(u):
    return (u.exp() - (-u).exp()) / (u.exp() + (-u).exp())  # (3)


def f_prime(u):
    return 1 - f(u) ** 2  # (u)


@dataclass
class Text:
    """The formulas as the text has them, for one sequence."""

    w: Weights
    xs: Tensor  # (T, I)
    ys: Tensor  # (T, M)
    h_0: Tensor  # (H,)

    def __post_init__(self) -> None:
        self.W_xh, self.W_hh, self.W_hy = self.w[:3]
        self.x, self.y = [None, *self.xs], [None, *self.ys]
        self.h, self.y_hat = [self.h_0], [None]
        for t in range(1, len(self.x)):
            self.h.append(f(self.u(t)))  # (5)
            self.y_hat.append(self.W_hy @ self.h[t])  # (2), (6)

    def u(self, t):
        return self.W_xh @ self.x[t] + self.W_hh @ self.h[t - 1]

    def J(self, t):
        return ((self.y[t] - self.y_hat[t]) ** 2).sum()

    def dJ_dy_hat(self, t):
        return 2 * (self.y_hat[t] - self.y[t])  # (M,)

    def dy_hat_dh(self):
        return self.W_hy  # (M, H)

    def dh_dh_before(self, t):
        return f_prime(self.u(t)).diag() @ self.W_hh  # (21) ∂h_t/∂h_{t−1}

    def dh_dh(self, t, k):
        """(20): ∂h_t/∂h_k = ∏_{m=k+1}^{t} ∂h_m/∂h_{m−1}, the later factor on the left; the identity for k = t, which is (a)."""
        return reduce(lambda below, m: self.dh_dh_before(m) @ below, range(k + 1, t + 1), torch.eye(len(self.h_0)))

    def dh_dW_xh(self, k):
        """The immediate derivative, h_{k−1} held fast; none for h_0."""
        return immediate(f_prime(self.u(k)).diag(), self.x[k]) if k > 0 else torch.zeros(H, H, I)

    def dh_dW_hh(self, k):
        return immediate(f_prime(self.u(k)).diag(), self.h[k - 1]) if k > 0 else torch.zeros(H, H, H)

    def total(self, t, dh_dW):
        """(14): dh_t/dW = Σ_{k=0}^{t} ∂h_t/∂h_k · ∂h_k/∂W."""
        return sum(torch.tensordot(self.dh_dh(t, k), dh_dW(k), 1) for k in range(t + 1))

    def dJ_dW(self, t, dh_dW):
        """(15), (16): Σ_{k=0}^{t} ∂J_t/∂ŷ_t · ∂ŷ_t/∂h_t · ∂h_t/∂h_k · ∂h_k/∂W."""
        row = self.dJ_dy_hat(t) @ self.dy_hat_dh()  # (H,)
        return sum(torch.tensordot(row @ self.dh_dh(t, k), dh_dW(k), 1) for k in range(t + 1))

    def dJ_dW_hy(self, t):
        return self.dJ_dy_hat(t).outer(self.h[t])  # h_t does not depend on W_hy: no sum over k


def case(*, T=T, initial=Learnable(), gain=0.8):  # noqa: B008  a frozen dataclass
    model = network(Elman(Tanh()), I, H, M, output=Linear(), loss=SquaredError(), initial=initial, gain=gain, seed=2)
    chance = torch.Generator().manual_seed(102)
    xs, ys = torch.randn(T, I, generator=chance), torch.randn(T, M, generator=chance)
    h_0 = model.recurrence.initial.detach()[0, 0] if initial.learnable else None
    return model, h_0, xs, ys


def test_forward():
    model, h_0, xs, ys = case()
    text = Text(weights(model), xs, ys, h_0)
    hs, _ = model.recurrence(xs.unsqueeze(1))
    same(hs[:, 0], torch.stack(text.h[1:]))  # (5)
    same(model.head.predict(hs)[:, 0], torch.stack(text.y_hat[1:]))  # (2), (6)
    h_1_of_equation_1 = f((text.W_xh @ xs.T).sum(1) + text.W_hh @ h_0)  # (1), with its sum over t
    differs(h_1_of_equation_1, text.h[1])


def test_tanh_and_its_derivative_as_a_function_of_itself():
    u = torch.linspace(-4, 4, 81)
    tanh = Tanh()
    same(tanh(u), f(u))  # (3)
    p, q = u.exp() - (-u).exp(), u.exp() + (-u).exp()  # (i)
    p_prime, q_prime = q, p  # (iv)
    quotient = (p_prime * q - p * q_prime) / q**2
    same(quotient, f_prime(u))  # (u)
    same(tanh.vjp(u, tanh(u), torch.ones_like(u)), quotient)
    same(tanh.vjp(u, tanh(u), torch.ones_like(u)), 1 - p**2 / q**2)


def test_loss_and_gradient_are_sums_over_time():
    model, h_0, xs, ys = case()
    text = Text(weights(model), xs, ys, h_0)
    J, got = product(model, one_stream(xs, ys))
    steps = range(1, T + 1)
    same(J, sum(text.J(t) for t in steps))  # (7)
    same(got.weight_ih, sum(text.dJ_dW(t, text.dh_dW_xh) for t in steps))  # (8), (9)
    same(got.weight_hh, sum(text.dJ_dW(t, text.dh_dW_hh) for t in steps))  # (8)
    same(got.weight_out, sum(text.dJ_dW_hy(t) for t in steps))  # (8)
    alone = [product(model, one_stream(xs, ys, weights=only(t, T)))[1] for t in steps]
    for of_all, of_each in zip(got, zip(*alone, strict=True), strict=True):
        if of_all is not None:
            same(of_all, sum(of_each))  # (8), both sides by the package


def test_step_2_by_the_total_derivative():
    """(10)–(15): J_2's gradient in W_xh, the sum written out."""
    model, h_0, xs, ys = case()
    text = Text(weights(model), xs, ys, h_0)
    _, got = product(model, one_stream(xs, ys, weights=only(2, T)))
    row = text.dJ_dy_hat(2) @ text.dy_hat_dh()
    dh2_dh1, dh2_dh0 = text.dh_dh_before(2), text.dh_dh_before(2) @ text.dh_dh_before(1)  # (18)
    eq13 = (
        text.dh_dW_xh(2)
        + torch.tensordot(dh2_dh1, text.dh_dW_xh(1), 1)
        + torch.tensordot(dh2_dh0, torch.zeros(H, H, I), 1)  # h_0 is drawn at random: ∂h_0/∂W_xh = 0
    )
    same(got.weight_ih, torch.tensordot(row, eq13, 1))  # (10), with (13) for its last factor
    same(eq13, text.total(2, text.dh_dW_xh))  # (14)
    same(got.weight_ih, text.dJ_dW(2, text.dh_dW_xh))  # (15)
    differs(torch.tensordot(row, text.dh_dW_xh(2), 1), got.weight_ih)  # (10) with h_1 "treated as a constant", against (11)
    # (15) as printed: ∂J_2/∂ŷ_k is zero for k ≠ 2, so that only the term of k = 2 would be left
    printed = sum(float(k == 2) * torch.tensordot(row @ text.dh_dh(2, k), text.dh_dW_xh(k), 1) for k in range(3))
    differs(printed, got.weight_ih)


@pytest.mark.parametrize("t", range(1, T + 1))
def test_any_step(t):
    """(16) for W_xh, the same for W_hh, and W_hy, which no state depends on."""
    model, h_0, xs, ys = case()
    text = Text(weights(model), xs, ys, h_0)
    J_t, got = product(model, one_stream(xs, ys, weights=only(t, T)))
    same(J_t, text.J(t))
    same(got.weight_ih, text.dJ_dW(t, text.dh_dW_xh))  # (16)
    same(got.weight_hh, text.dJ_dW(t, text.dh_dW_hh))
    same(got.weight_out, text.dJ_dW_hy(t))
    if t > 1:  # (16) as printed the second time: ∂J_t/∂ŷ_k · ∂ŷ_k/∂h_k has J_k's row where J_t's belongs
        rows = [torch.zeros(M), *(text.dJ_dy_hat(k) for k in range(1, t + 1))]
        terms = [torch.tensordot(rows[k] @ text.dy_hat_dh() @ text.dh_dh(t, k), text.dh_dW_xh(k), 1) for k in range(t + 1)]
        differs(sum(terms), got.weight_ih)


@pytest.mark.parametrize("k", range(T))
def test_dh_t_dh_k_is_a_product(k):
    """(17)–(20): the model started at h_k, with J_T alone, gives ∂J_T/∂h_k = ∂J_T/∂ŷ_T · ∂ŷ_T/∂h_T · ∂h_T/∂h_k."""
    model, h_0, xs, ys = case()
    text = Text(weights(model), xs, ys, h_0)
    row = text.dJ_dy_hat(T) @ text.dy_hat_dh()
    model.recurrence.initial.data[0, 0] = text.h[k]
    _, got = product(model, one_stream(xs[k:], ys[k:], weights=only(T - k, T - k)))
    same(got.initial[0], row @ text.dh_dh(T, k))  # (20)
    in_words = row
    for m in range(T, k, -1):  # (19), factor by factor from the left
        in_words = in_words @ text.dh_dh_before(m)
    same(got.initial[0], in_words)
    if T - k > 1:  # (20) read from left to right
        wrong_way = reduce(lambda so_far, m: so_far @ text.dh_dh_before(m), range(k + 1, T + 1), torch.eye(H))
        differs(row @ wrong_way, got.initial[0])


def test_random_initial_state():
    """h_0 is "some random initialization": drawn by the model, or drawn by hand and given; a constant either way."""
    model, _, xs, ys = case(initial=Random(std=0.5))
    torch.manual_seed(11)
    h_0 = torch.empty(H).normal_(0.0, 0.5)
    text = Text(weights(model), xs, ys, h_0)
    torch.manual_seed(11)
    J, drawn = product(model, one_stream(xs, ys))
    same(J, sum(text.J(t) for t in range(1, T + 1)))
    same(drawn.weight_hh, sum(text.dJ_dW(t, text.dh_dW_hh) for t in range(1, T + 1)))
    model.recurrence.initial_rule = Given(h_0.view(1, 1, H))
    _, given = product(model, one_stream(xs, ys))
    same(given.weight_hh, drawn.weight_hh)
    assert drawn.initial is None


def test_gradient_descent():
    """(a) take the derivative of the loss, (b) shift the parameters the opposite way: J falls by η‖∇J‖², to first order."""
    model, h_0, xs, ys = case()
    text, batch, steps = Text(weights(model), xs, ys, h_0), one_stream(xs, ys), range(1, T + 1)
    eta = 1e-4
    wanted = text.W_xh - eta * sum(text.dJ_dW(t, text.dh_dW_xh) for t in steps)
    J_before, _ = product(model, batch)
    squared_norm = sum(p.grad.square().sum() for p in model.parameters())
    torch.optim.SGD(model.parameters(), lr=eta).step()
    same(weights(model).weight_ih, wanted)
    J_after, _ = product(model, batch)
    assert J_after < J_before
    torch.testing.assert_close(J_before - J_after, eta * squared_norm, rtol=2e-2, atol=0)  # what is left out is of order η


class SingleNeuron:
    """[27], [28] as first printed (they should be 22 and 23): scalars h_t, y_t, W_nn, W_ny and a vector W_xn."""

    def __init__(self, model, xs) -> None:
        W_xn, W_nn, W_ny = (a.tolist() for a in weights(model)[:3])
        self.W_xn, self.W_nn, self.W_ny, self.xs = W_xn[0], W_nn[0][0], W_ny[0][0], xs.tolist()
        self.h = [model.recurrence.initial.item()]
        for t in range(1, len(self.xs) + 1):
            self.h.append(f(self.u(t)).item())
        self.y_hat = [None, *(self.W_ny * h for h in self.h[1:])]

    def u(self, t):
        return torch.tensor(sum(w * x for w, x in zip(self.W_xn, self.xs[t - 1], strict=True)) + self.W_nn * self.h[t - 1])

    def dh_dh(self, t):
        df_du = 1 - f(self.u(t)) ** 2  # (u)
        du_dh = self.W_nn  # [25]
        return df_du * du_dh  # [24], [26]


def neuron_case(z, *, W_nn=0.9, gain=1.0):
    model = network(Elman(Tanh()), I, 1, 1, output=Linear(), loss=SquaredError(), gain=gain, seed=4)
    model.recurrence.weight_hh_l0.data.fill_(W_nn)
    xs = torch.randn(z, I, generator=torch.Generator().manual_seed(104))
    return model, xs, torch.zeros(z, 1)


@pytest.mark.parametrize("z", [1, 2, 6])
def test_single_neuron(z):
    model, xs, ys = neuron_case(z)
    neuron = SingleNeuron(model, xs)
    J, got = product(model, one_stream(xs, ys, weights=only(z, z)))
    same(J, torch.tensor(neuron.y_hat[z] ** 2))  # [27], [28] as first printed
    row = 2 * neuron.y_hat[z] * neuron.W_ny
    chain = torch.tensor(1.0)
    for t in range(z, 0, -1):
        chain = chain * neuron.dh_dh(t)  # [26]
    same(got.initial[0, 0], row * chain)
    written_out = torch.tensor(1.0)
    for t in range(z, 0, -1):
        written_out = written_out * (1 - torch.tanh(neuron.u(t)) ** 2) * neuron.W_nn  # [27], with f for its f′
    same(got.initial[0, 0], row * written_out)
    printed = torch.tensor(1.0)
    for t in range(z, 0, -1):
        printed = printed * (1 - f_prime(neuron.u(t)) ** 2) * neuron.W_nn  # [27] as printed
    differs(row * printed, got.initial[0, 0])
    by_k = [0.0]  # dJ_z/dW_nn as the literal sum over k of (16)
    for k in range(1, z + 1):
        dh_z_dh_k = torch.tensor(1.0)
        for m in range(k + 1, z + 1):
            dh_z_dh_k = dh_z_dh_k * neuron.dh_dh(m)  # (20); of numbers, in any order
        by_k.append(row * dh_z_dh_k * f_prime(neuron.u(k)) * neuron.h[k - 1])
    same(got.weight_hh[0, 0], sum(by_k))


def test_why_far_errors_fade():
    """With |W_nn| < 1 each factor of (20) is below 1: the gradient that reaches h_0 falls at least as fast as |W_nn|^z."""
    for z in (1, 5, 10, 20, 40):
        model, xs, _ = neuron_case(z)
        neuron = SingleNeuron(model, xs)
        ys = torch.full((z, 1), neuron.y_hat[z] - 1.0)  # the same error, 1, at the end of each
        _, got = product(model, one_stream(xs, ys, weights=only(z, z)))
        assert all(0 < f_prime(neuron.u(t)) <= 1 for t in range(1, z + 1))  # (0, 1], not [0, 1]
        assert 0 < got.initial.abs().item() <= 0.9**z * 2 * abs(neuron.W_ny)


def test_where_far_errors_do_not_fade():
    """Against "so that W_nn < 1": a normal W_nn may well be larger, and near u = 0, where f′ ≈ 1, the product then grows."""
    model, xs, ys = neuron_case(10, W_nn=1.5)
    model.recurrence.initial.data.zero_()
    _, got = product(model, one_stream(0 * xs, ys + 1, weights=only(10, 10)))
    same(got.initial[0, 0], -2 * weights(model).weight_out[0, 0] * 1.5**10)


def test_short_term_dependencies_weigh_more():
    """The terms of (16) by their distance t − k, for a network of several neurons: bounded by ∏ ‖∂h_m/∂h_{m−1}‖, and fading."""
    z = 30
    model, h_0, xs, ys = case(T=z)
    text = Text(weights(model), xs, ys, h_0)
    row = text.dJ_dy_hat(z) @ text.dy_hat_dh()
    sizes = []
    for k in range(z, 0, -1):
        far = text.dh_dh(z, k)
        bound = 1.0
        for m in range(k + 1, z + 1):
            bound = bound * torch.linalg.matrix_norm(text.dh_dh_before(m), 2)
        assert torch.linalg.matrix_norm(far, 2) <= bound * (1 + rounding())
        sizes.append(torch.tensordot(row @ far, text.dh_dW_xh(k), 1).norm())
    assert max(sizes[20:]) < 1e-3 * max(sizes[:3])
    _, got = product(model, one_stream(xs, ys, weights=only(z, z)))
    same(got.weight_ih, text.dJ_dW(z, text.dh_dW_xh))
