"""*Backpropagation through time – BPTT* (title and author left as placeholders): biases, any activation, negative log-likelihood.

The text numbers its equations (1)–(21), and so do the lines here. Its letters:

    U = weight_ih (H, I)    W = weight_hh (H, H)    V = the head's weight (V, H)    τ = T
    b = bias_ih + bias_hh   c = the head's bias     a^(t) = wx_t + rh_t             o^(t) as in the head

Slips in the text, met below:
    * (14) is a row times V and (15) a column, Vᵀ times it: the same numbers, transposed, which the text does not say.
    * It calls h^(t+1) the hidden state that precedes h^(t); it is the one that follows.
    * t = 0 has no output: ∇_{h^(0)} C has the second term of (16) alone. It is the gradient of the initial state.
    * (20)–(21) opens two brackets and closes one. What is missing closes before the last factor, ∂h^(τ−2)/∂h^(τ−3).
    * y^(t) is an index, and p(y^(t) | …) the entry of ŷ^(t) at it; the text says that y^(t) is the entry.
    * δ stands for ∂; "maximum the likelihood" for maximising it. Why the log, the text asks: it makes the product of (10) a sum.
"""

from dataclasses import dataclass

import pytest
import torch
from _literal import Weights, differs, network, one_stream, product, same, weights
from torch import Tensor

from throughtime.cells import Elman, Identity, Relu, Sigmoid, Tanh
from throughtime.gradients import FullBPTT, TruncatedBPTT

T, I, H, V = 5, 4, 3, 6
tau = T


def mixing(a):
    """An activation that is not elementwise: softmax over the hidden units."""
    return torch.softmax(a, -1)


ACTIVATIONS = [Tanh(), Relu(), Sigmoid(), Identity(), torch.sin, torch.nn.functional.softplus, mixing]
any_activation = pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda f: getattr(f, "__name__", str(f)))


@dataclass
class Text:
    """The formulas as the text has them, for one sequence."""

    activation: object
    w: Weights
    xs: Tensor  # (T, I)
    ys: Tensor  # (T,) indices

    def __post_init__(self) -> None:
        w, x = self.w, [None, *self.xs]
        self.y = [None, *self.ys.tolist()]
        self.a, self.h, self.o, self.y_hat, self.dh_da = [None], [w.initial[0]], [None], [None], [None]
        for t in range(1, tau + 1):
            self.a.append(w.bias + w.weight_hh @ self.h[t - 1] + w.weight_ih @ x[t])  # (1), with (5), (6)
            self.h.append(self.activation(self.a[t]))  # (2)
            self.dh_da.append(torch.func.jacrev(self.activation)(self.a[t]))  # (H, H), diagonal where it is elementwise
            self.o.append(w.bias_out + w.weight_out @ self.h[t])  # (3), with (7)
            self.y_hat.append(self.o[t].exp() / self.o[t].exp().sum())  # (4)

    def L(self, t):
        return -self.y_hat[t][self.y[t]].log()  # −log p(y^(t) | x^(1) … x^(t))

    def grad_o(self, t):
        return self.y_hat[t] - torch.eye(V)[self.y[t]]  # (12): ŷ_i − 1 where i = y^(t)

    def do_dh(self):
        return self.w.weight_out  # ∂o^(t)/∂h^(t) = V

    def dh_dh(self, t):
        return self.dh_da[t] @ self.w.weight_hh  # ∂h^(t)/∂h^(t−1)

    def grad_h(self, t):
        """From t = τ, "working our way down to t = 0"; rows, as (13), (14), (16)–(21) have them."""
        if t == tau:
            return self.grad_o(tau) @ self.do_dh()  # (13), (14)
        later = self.grad_h(t + 1) @ self.dh_dh(t + 1)
        return later if t == 0 else self.grad_o(t) @ self.do_dh() + later  # (16), (17), (18)


def case(activation=Tanh()):  # noqa: B008  a frozen dataclass
    model = network(Elman(activation), I, H, V, bias=True, seed=1)
    chance = torch.Generator().manual_seed(101)
    xs, ys = torch.randn(T, I, generator=chance), torch.randint(V, (T,), generator=chance)
    return model, Text(activation, weights(model), xs, ys), xs, ys


def product_grad_h(model, text, xs, ys, t):
    """∇_{h^(t)} C by the package: of the loss at t directly, and of all later ones as the initial state of a model started at h^(t)."""
    direct = torch.zeros(H)
    if t > 0:
        h = text.h[t].view(1, 1, H).clone().requires_grad_()
        model.losses(h, one_stream(xs[t - 1 : t], ys[t - 1 : t])).sum().backward()
        direct = h.grad[0, 0]
    if t == tau:
        return direct
    model.recurrence.initial.data[0, 0] = text.h[t]
    return direct + product(model, one_stream(xs[t:], ys[t:]))[1].initial[0]


@any_activation
def test_forward(activation):
    model, text, xs, _ = case(activation)
    hs, _ = model.recurrence(xs.unsqueeze(1))
    same(hs[:, 0], torch.stack(text.h[1:]))  # (1), (2)
    same(model.head(hs)[:, 0], torch.stack(text.o[1:]))  # (3)
    same(model.head.predict(hs)[:, 0], torch.stack(text.y_hat[1:]))  # (4)


def test_cost_is_the_negative_log_likelihood():
    model, text, xs, ys = case()
    C, _ = product(model, one_stream(xs, ys))
    same(C, sum(text.L(t) for t in range(1, tau + 1)))  # (8), (9)
    same(C, -sum(text.y_hat[t][text.y[t]].log() for t in range(1, tau + 1)))  # (10)
    likelihood = torch.ones(())
    for t in range(1, tau + 1):
        likelihood = likelihood * text.y_hat[t][text.y[t]]
    same((-C).exp(), likelihood)  # the log turns this product into the sum of (10)


def test_gradient_of_the_outputs():
    """(12), at every t: ∇_o C = ŷ − 1_{i=y}, element by element."""
    model, text, xs, ys = case()
    # ∂C/∂o = ∂C/∂C^(t) · ∂C^(t)/∂o, and ∂C/∂C^(t) = 1. The head's losses, differentiated in o, are the package's.
    o = torch.stack(text.o[1:]).unsqueeze(1).requires_grad_()
    C = model.head.loss.per_step(o, ys.unsqueeze(1), model.head.output).sum()
    (got,) = torch.autograd.grad(C, o)
    for t in range(1, tau + 1):
        for i in range(V):
            same(got[t - 1, 0, i], text.y_hat[t][i] - float(i == text.y[t]))  # (12)
    _, grads = product(model, one_stream(xs, ys))
    same(grads.bias_out, sum(text.grad_o(t) for t in range(1, tau + 1)))  # c feels (12) and nothing else


@any_activation
def test_gradient_of_the_last_state(activation):
    model, text, xs, ys = case(activation)
    got = product_grad_h(model, text, xs, ys, tau)
    same(got, text.grad_o(tau) @ text.do_dh())  # (13), (14): a row
    same(got.unsqueeze(1), text.w.weight_out.T @ text.grad_o(tau).unsqueeze(1))  # (15): a column, (14) transposed


@any_activation
def test_gradient_of_every_earlier_state(activation):
    """(16), (17), (18) and on down to t = 0, where the state has no output and the first term is absent."""
    model, text, xs, ys = case(activation)
    for t in range(tau - 1, -1, -1):
        same(product_grad_h(model, text, xs, ys, t), text.grad_h(t))


@any_activation
@pytest.mark.parametrize("method", [FullBPTT(), TruncatedBPTT(2, T)], ids=str)
def test_gradient_of_the_initial_state_and_of_the_parameters(activation, method):
    """What ∇_o and ∇_h are for: with D = ∂h/∂a, each parameter's gradient is a sum over t."""
    model, text, xs, ys = case(activation)
    _, got = product(model, one_stream(xs, ys), method)
    same(got.initial[0], text.grad_h(0))
    steps = range(1, tau + 1)
    grad_a = [None, *(text.grad_h(t) @ text.dh_da[t] for t in steps)]
    same(got.bias_out, sum(text.grad_o(t) for t in steps))  # c
    same(got.weight_out, sum(text.grad_o(t).outer(text.h[t]) for t in steps))  # V
    same(got.bias, sum(grad_a[t] for t in steps))  # b
    same(got.weight_hh, sum(grad_a[t].outer(text.h[t - 1]) for t in steps))  # W
    same(got.weight_ih, sum(grad_a[t].outer(xs[t - 1]) for t in steps))  # U


@any_activation
def test_unrolled(activation):
    """(18)–(21): three states back from the end, each line of the unrolling."""
    model, text, xs, ys = case(activation)
    got = product_grad_h(model, text, xs, ys, tau - 3)

    def o_term(t):
        return text.grad_o(t) @ text.do_dh()

    J = text.dh_dh
    eq18 = o_term(tau - 3) + text.grad_h(tau - 2) @ J(tau - 2)
    eq19 = o_term(tau - 3) + (o_term(tau - 2) + text.grad_h(tau - 1) @ J(tau - 1)) @ J(tau - 2)
    # (20)–(21), with the bracket that the text forgets before the last factor
    eq20 = o_term(tau - 3) + (o_term(tau - 2) + (o_term(tau - 1) + text.grad_h(tau) @ J(tau)) @ J(tau - 1)) @ J(tau - 2)
    for line in (eq18, eq19, eq20):
        same(got, line)
    # as printed, the only closing bracket ends the inner pair, and ∇_{o^(τ−2)} C is not led back through ∂h^(τ−2)/∂h^(τ−3)
    printed = o_term(tau - 3) + o_term(tau - 2) + (o_term(tau - 1) + text.grad_h(tau) @ J(tau)) @ J(tau - 1) @ J(tau - 2)
    differs(printed, got)
