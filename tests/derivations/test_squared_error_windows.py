"""*Back Propagation through time – RNN* (GeeksforGeeks): any g1 and g2, squared error, windows, decay, LSTM, clipping.

The text's equations have no numbers; here they are named by their left sides. Its letters:

    W_x = weight_ih (H, I)    W_s = weight_hh (H, H)    W_Y = the head's weight (M, H)    S_t = h_t    N = T, the last step

Slips in the text, met below:
    * The general formula under "Adjusting WX" has ∂E_N/∂W_S on its left; it is ∂E_N/∂W_X.
    * ∂S_i/∂W in the sums is the immediate derivative, S_{i−1} held fast; and ∂Y_N/∂S_i is ∂Y_N/∂S_N · ∂S_N/∂S_{N−1} · … · ∂S_{i+1}/∂S_i.
    * "Current output depends on current output": on the current input.
    * That nothing more than 8 or 10 steps back has an effect is no law: it depends on the weights. The decay is geometric where
      every ∂S_j/∂S_{j−1} shrinks; with orthogonal weights and a linear g1 there is none, and with larger ones the gradient grows.
    * "δ > threshold" compares a vector with a number; meant is its norm.
"""

from dataclasses import dataclass
from functools import reduce

import pytest
import torch
from _literal import Weights, differs, immediate, network, one_stream, only, product, same, weights
from _truth import rounding
from torch import Tensor

from throughtime.cells import LSTM, Elman, Identity, Relu, Sigmoid, Tanh
from throughtime.gradients import FullBPTT, TruncatedBPTT
from throughtime.models import Linear, SigmoidOutput, Softmax, SquaredError

I, H, M = 4, 3, 2


@dataclass
class Text:
    """The formulas as the text has them, for one sequence."""

    g1: object
    g2: object
    w: Weights
    xs: Tensor  # (N, I)
    ds: Tensor  # (N, M)

    def __post_init__(self) -> None:
        self.W_x, self.W_s, self.W_Y = self.w[:3]
        self.N = len(self.xs)
        self.x, self.d = [None, *self.xs], [None, *self.ds]
        self.S, self.Y, self.dg1, self.dg2 = [self.w.initial[0]], [None], [None], [None]
        for t in range(1, self.N + 1):
            a = self.W_x @ self.x[t] + self.W_s @ self.S[t - 1]
            self.S.append(self.g1(a))  # S_t = g1(W_x x_t + W_s S_{t−1})
            self.Y.append(self.g2(self.W_Y @ self.S[t]))  # Y_t = g2(W_Y S_t)
            self.dg1.append(torch.func.jacrev(self.g1)(a))  # (H, H)
            self.dg2.append(torch.func.jacrev(self.g2)(self.W_Y @ self.S[t]))  # (M, M)

    def E(self, t):
        return ((self.d[t] - self.Y[t]) ** 2).sum()  # E_t = (d_t − Y_t)²

    def dE_dY(self, t):
        return -2 * (self.d[t] - self.Y[t])  # (M,)

    def dE_dS(self, t):
        return self.dE_dY(t) @ self.dg2[t] @ self.W_Y  # ∂E_t/∂Y_t · ∂Y_t/∂S_t

    def dE_dW_Y(self, t):
        return torch.tensordot(self.dE_dY(t), immediate(self.dg2[t], self.S[t]), 1)  # ∂E_t/∂Y_t · ∂Y_t/∂W_Y

    def dS_dS_before(self, j):
        return self.dg1[j] @ self.W_s

    def dS_dS(self, t, i):
        return reduce(lambda below, j: self.dS_dS_before(j) @ below, range(i + 1, t + 1), torch.eye(H))

    def dS_dW_S(self, i):
        return immediate(self.dg1[i], self.S[i - 1])

    def dS_dW_X(self, i):
        return immediate(self.dg1[i], self.x[i])

    def term(self, t, i, dS_dW):
        """∂E_t/∂Y_t · ∂Y_t/∂S_i · ∂S_i/∂W."""
        return torch.tensordot(self.dE_dS(t) @ self.dS_dS(t, i), dS_dW(i), 1)

    def dE_dW(self, N, dS_dW):
        return sum(self.term(N, i, dS_dW) for i in range(1, N + 1))  # Σ_{i=1}^{N}


def case(N, *, g1=Tanh(), g2=Linear(), gain=0.8):  # noqa: B008  frozen dataclasses
    model = network(Elman(g1), I, H, M, output=g2, loss=SquaredError(), gain=gain, seed=55)
    chance = torch.Generator().manual_seed(105)
    xs, ds = torch.randn(N, I, generator=chance), torch.randn(N, M, generator=chance)
    return model, Text(g1, g2, weights(model), xs, ds), xs, ds


def normalised(o):
    return torch.nn.functional.normalize(o, dim=-1)


any_g1 = pytest.mark.parametrize("g1", [Tanh(), Sigmoid(), Relu(), Identity(), torch.sin], ids=lambda f: getattr(f, "__name__", str(f)))
any_g2 = pytest.mark.parametrize(
    "g2", [Linear(), SigmoidOutput(), Softmax(), torch.atan, normalised], ids=lambda f: getattr(f, "__name__", str(f))
)


@any_g1
@any_g2
def test_forward_and_error(g1, g2):
    model, text, xs, ds = case(3, g1=g1, g2=g2)
    hs, _ = model.recurrence(xs.unsqueeze(1))
    same(hs[:, 0], torch.stack(text.S[1:]))  # S_t = g1(W_x x_t + W_s S_{t−1})
    same(model.head.predict(hs)[:, 0], torch.stack(text.Y[1:]))  # Y_t = g2(W_Y S_t)
    same(product(model, one_stream(xs, ds))[0], sum(text.E(t) for t in (1, 2, 3)))  # E_t = (d_t − Y_t)², at every step
    same(product(model, one_stream(xs, ds, weights=only(3, 3)))[0], text.E(3))  # E_3 = (d_3 − Y_3)², at one step only


@any_g1
@any_g2
def test_E_3(g1, g2):
    """∂E_3/∂W_y, and the three terms each of ∂E_3/∂W_S and ∂E_3/∂W_X, as the text writes them out."""
    model, text, xs, ds = case(3, g1=g1, g2=g2)
    _, got = product(model, one_stream(xs, ds, weights=only(3, 3)))
    same(got.weight_out, text.dE_dW_Y(3))  # ∂E_3/∂Y_3 · ∂Y_3/∂W_Y
    row = text.dE_dY(3) @ text.dg2[3] @ text.W_Y  # ∂E_3/∂Y_3 · ∂Y_3/∂S_3
    dS3_dS2, dS2_dS1 = text.dS_dS_before(3), text.dS_dS_before(2)
    for of, dS_dW in ((got.weight_hh, text.dS_dW_S), (got.weight_ih, text.dS_dW_X)):
        first = torch.tensordot(row, dS_dW(3), 1)
        second = torch.tensordot(row @ dS3_dS2, dS_dW(2), 1)
        third = torch.tensordot(row @ dS3_dS2 @ dS2_dS1, dS_dW(1), 1)
        same(of, first + second + third)
        differs(first, of)  # "but we can't stop with this"


@pytest.mark.parametrize("N", [1, 2, 5, 9])
def test_E_N_in_general(N):
    """∂E_N/∂W_S and ∂E_N/∂W_X = Σ_{i=1}^{N} ∂E_N/∂Y_N · ∂Y_N/∂S_i · ∂S_i/∂W: a loss at the last step only, many to one."""
    model, text, xs, ds = case(N, g2=torch.atan)
    E, got = product(model, one_stream(xs, ds, weights=only(N, N)))
    same(E, text.E(N))
    same(got.weight_out, text.dE_dW_Y(N))
    same(got.weight_hh, text.dE_dW(N, text.dS_dW_S))
    same(got.weight_ih, text.dE_dW(N, text.dS_dW_X))
    assert got.weight_hh.shape != text.dE_dW(N, text.dS_dW_X).shape  # the second general formula's left side, as printed


@any_g1
def test_an_error_at_every_step(g1):
    model, text, xs, ds = case(6, g1=g1, g2=Softmax())
    _, got = product(model, one_stream(xs, ds))
    steps = range(1, 7)
    same(got.weight_out, sum(text.dE_dW_Y(t) for t in steps))
    same(got.weight_hh, sum(text.dE_dW(t, text.dS_dW_S) for t in steps))
    same(got.weight_ih, sum(text.dE_dW(t, text.dS_dW_X) for t in steps))


def windows(N, k1):
    """(first loss, last loss) of every window: k1 losses each, the last window perhaps fewer."""
    return [(start, min(start + k1 - 1, N)) for start in range(1, N + 1, k1)]


@pytest.mark.parametrize("k", [(1, 8), (1, 10), (4, 8), (5, 10), (8, 8), (10, 10), (3, 8)], ids=str)
def test_a_limited_number_of_time_steps_like_8_or_10(k):
    """By the definition: window after window, losses t, and for each the steps i that the window still holds."""
    k1, k2 = k
    N = 24
    model, text, xs, ds = case(N)
    E, got = product(model, one_stream(xs, ds), TruncatedBPTT(k1, k2))
    dW_S, dW_X, dS_0 = torch.zeros(H, H), torch.zeros(H, I), torch.zeros(H)
    for start, stop in windows(N, k1):
        for t in range(start, stop + 1):
            lags = range(max(1, stop - k2 + 1), t + 1)
            assert len(lags) <= k2
            for i in lags:
                dW_S += text.term(t, i, text.dS_dW_S)
                dW_X += text.term(t, i, text.dS_dW_X)
            if stop <= k2:
                dS_0 += text.dE_dS(t) @ text.dS_dS(t, 0)
    same(E, sum(text.E(t) for t in range(1, N + 1)))
    same(got.weight_hh, dW_S)
    same(got.weight_ih, dW_X)
    same(got.initial[0], dS_0)
    same(got.weight_out, sum(text.dE_dW_Y(t) for t in range(1, N + 1)))  # of the current step alone: nothing to cut off


@pytest.mark.parametrize("cut", [1, 7, 8, 13])
def test_a_window_reaches_back_into_the_stretch_before(cut):
    """With k1 = 1 every loss sees the 8 steps up to its own, wherever a stream is cut into two calls."""
    N, method = 20, TruncatedBPTT(1, 8)
    model, _, xs, ds = case(N)
    batch = one_stream(xs, ds)
    _, whole = product(model, batch, method)
    whole = [p.clone() for p in (whole.weight_ih, whole.weight_hh, whole.weight_out, whole.initial)]
    model.zero_grad()
    carry = method.accumulate(model, batch.steps(0, cut)).carry
    method.accumulate(model, batch.steps(cut, N), carry)
    parts = (model.recurrence.weight_ih_l0, model.recurrence.weight_hh_l0, model.head.weight)
    for at_once, in_parts in zip(whole[:3], parts, strict=True):
        same(in_parts.grad, at_once)


def test_the_contribution_of_far_steps_decays_geometrically():
    """‖∂E_N/∂Y_N · ∂Y_N/∂S_i · ∂S_i/∂W_S‖ ≤ ρ^{N−i} · const with ρ = max_j ‖∂S_j/∂S_{j−1}‖ < 1; so windows of 8 and 10 come near."""
    N = 30
    model, _, xs, ds = case(N)
    W_s = model.recurrence.weight_hh_l0.data
    W_s.mul_(0.8 / torch.linalg.matrix_norm(W_s, 2))
    text = Text(Tanh(), Linear(), weights(model), xs, ds)
    rho = max(torch.linalg.matrix_norm(text.dS_dS_before(j), 2) for j in range(1, N + 1))
    assert rho <= 0.8
    largest = max(text.dS_dW_S(i).flatten(1).norm() for i in range(1, N + 1))
    for i in range(1, N + 1):
        assert text.term(N, i, text.dS_dW_S).norm() <= rho ** (N - i) * text.dE_dS(N).norm() * largest
    batch = one_stream(xs, ds, weights=only(N, N))
    full = product(model, batch)[1].weight_hh.clone()
    same(full, text.dE_dW(N, text.dS_dW_S))
    left_out = []
    for k in (1, 2, 4, 8, 10, 20):
        _, near = product(model, batch, TruncatedBPTT(1, k))
        same(near.weight_hh, sum(text.term(N, i, text.dS_dW_S) for i in range(N - k + 1, N + 1)))
        left_out.append((full - near.weight_hh).norm() / full.norm())
    assert left_out == sorted(left_out, reverse=True)
    assert left_out[3] < 1e-2 > left_out[4]


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_the_decay_is_no_law(scale):
    """W_s = scale · Q with Q orthogonal and g1 linear: what arrives after 40 steps is scale^40 times what set out."""
    N = 40
    model, _, xs, ds = case(N, g1=Identity())
    torch.nn.init.orthogonal_(model.recurrence.weight_hh_l0.data).mul_(scale)
    text = Text(Identity(), Linear(), weights(model), xs, ds)
    _, got = product(model, one_stream(xs, ds, weights=only(N, N)))
    same(got.initial.norm(), text.dE_dS(N).norm() * scale**N)


# ---- LSTM: "one of the famous solutions to this problem" ----


def lstm_step(W, R, b, x, s):
    """(h, c) after one step, from (h, c) before it, written out."""
    h, c = s[:H], s[H:]
    a_i, a_f, a_g, a_o = (W @ x + R @ h + b).view(4, H)
    c_next = torch.sigmoid(a_f) * c + torch.sigmoid(a_i) * torch.tanh(a_g)
    return torch.cat((torch.sigmoid(a_o) * torch.tanh(c_next), c_next))


def lstm_case(N):
    model = network(LSTM(), I, H, M, output=Linear(), loss=SquaredError(), bias=True, seed=6)
    chance = torch.Generator().manual_seed(106)
    xs, ds = torch.randn(N, I, generator=chance), torch.randn(N, M, generator=chance)
    return model, xs, ds


def lstm_states(w, xs):
    s = [w.initial.flatten()]
    for x in xs:
        s.append(lstm_step(w.weight_ih, w.weight_hh, w.bias, x, s[-1]))
    return s


def test_lstm_by_the_same_sum_over_i():
    """The sum of the text with the whole state s = (h, c) for S: ∂E_N/∂R = Σ_i ∂E_N/∂s_N · ∏_j ∂s_j/∂s_{j−1} · ∂s_i/∂R."""
    N = 6
    model, xs, ds = lstm_case(N)
    w = weights(model)
    s = lstm_states(w, xs)
    _, got = product(model, one_stream(xs, ds, weights=only(N, N)))
    row = torch.cat((2 * (w.weight_out @ s[N][:H] + w.bias_out - ds[N - 1]) @ w.weight_out, torch.zeros(H)))
    dW, dR, db = torch.zeros(4 * H, I), torch.zeros(4 * H, H), torch.zeros(4 * H)
    for i in range(N, 0, -1):
        at = (w.weight_ih, w.weight_hh, w.bias, xs[i - 1], s[i - 1])
        ds_dW, ds_dR, ds_db, ds_ds = torch.func.jacrev(lstm_step, argnums=(0, 1, 2, 4))(*at)
        dW += torch.tensordot(row, ds_dW, 1)
        dR += torch.tensordot(row, ds_dR, 1)
        db += row @ ds_db
        row = row @ ds_ds
    same(got.weight_ih, dW)
    same(got.weight_hh, dR)
    same(got.bias, db)
    same(got.initial.flatten(), row)


def test_lstm_keeps_what_the_simple_network_loses():
    """∂c_N/∂c_0 = ∏_t f_t where no gate sees h (R = 0); with the forget gate open the product is near 1 after 60 steps."""
    N = 60
    model, xs, ds = lstm_case(N)
    model.recurrence.weight_hh_l0.data.zero_()
    model.recurrence.bias_ih_l0.data.view(4, H)[1] = 9.0
    w = weights(model)
    _, got = product(model, one_stream(xs, ds, weights=only(N, N)))
    h, c = lstm_states(w, xs)[N].view(2, H)
    f = torch.sigmoid(w.weight_ih.view(4, H, I)[1] @ xs.T + w.bias.view(4, H)[1].unsqueeze(1))  # (H, N)
    o = torch.sigmoid(w.weight_ih.view(4, H, I)[3] @ xs[N - 1] + w.bias.view(4, H)[3])
    at_c_N = 2 * (w.weight_out @ h + w.bias_out - ds[N - 1]) @ w.weight_out * o * (1 - torch.tanh(c) ** 2)
    arrives = torch.ones(H)
    for t in range(N):
        arrives = arrives * f[:, t]  # ∏_t f_t
    same(got.initial[1], at_c_N * arrives)
    assert arrives.min() > 0.9
    simple, text, xs, ds = case(N)
    _, lost = product(simple, one_stream(xs, ds, weights=only(N, N)))
    assert lost.initial.norm() < 1e-6 * text.dE_dS(N).norm()


# ---- clipping: "in each time step, check if the gradient δ > threshold; if yes, then normalize it" ----


def clipped_windows(text, k1, k2, threshold):
    """The recursion with the check in it, window by window. Returns ∂E/∂W_S, ∂E/∂W_X, ∂E/∂S_0, and how many δ_t were cut and left."""
    dW_S, dW_X, dS_0, cut, left = torch.zeros(H, H), torch.zeros(H, I), torch.zeros(H), 0, 0
    for start, stop in windows(text.N, k1):
        arriving = torch.zeros(H)
        first = max(1, stop - k2 + 1)
        for t in range(stop, first - 1, -1):
            delta = arriving + (text.dE_dS(t) if t >= start else 0)
            if delta.norm() > threshold:
                delta, cut = delta / delta.norm() * threshold, cut + 1
            else:
                left += 1
            dW_S += (delta @ text.dg1[t]).outer(text.S[t - 1])
            dW_X += (delta @ text.dg1[t]).outer(text.x[t])
            arriving = delta @ text.dS_dS_before(t)
        dS_0 += arriving if first == 1 else 0
    return dW_S, dW_X, dS_0, cut, left


@pytest.mark.parametrize("k", [(12, 12), (1, 8), (4, 10), (8, 8)], ids=str)
@pytest.mark.parametrize(("gain", "threshold"), [(0.8, 2.0), (3.0, 12.0)])
def test_clipping_at_each_time_step(k, gain, threshold):
    N = 12
    model, text, xs, ds = case(N, gain=gain)
    method = FullBPTT(clip_adjoint=threshold) if k == (N, N) else TruncatedBPTT(*k, clip_adjoint=threshold)
    _, got = product(model, one_stream(xs, ds), method)
    dW_S, dW_X, dS_0, cut, left = clipped_windows(text, *k, threshold)
    assert cut
    assert left
    same(got.weight_hh, dW_S)
    same(got.weight_ih, dW_X)
    same(got.initial[0], dS_0)
    same(got.weight_out, sum(text.dE_dW_Y(t) for t in range(1, N + 1)))  # W_Y is not behind the check


def test_clipping_stops_an_explosion():
    """A linear network with W_s = 1.5 Q: unclipped, 1.5^40 of the error arrives at S_0; clipped, the threshold times 1.5 at most."""
    N, threshold = 40, 0.1
    model, _, xs, ds = case(N, g1=Identity())
    torch.nn.init.orthogonal_(model.recurrence.weight_hh_l0.data).mul_(1.5)
    text = Text(Identity(), Linear(), weights(model), xs, ds)
    _, free = product(model, one_stream(xs, ds, weights=only(N, N)))
    assert free.initial.norm() > 1e6
    _, held = product(model, one_stream(xs, ds), FullBPTT(clip_adjoint=threshold))
    same(held.initial[0], clipped_windows(text, N, N, threshold)[2])
    assert held.initial.norm() <= 1.5 * threshold * (1 + rounding())


def test_clipping_of_lstm_scales_h_and_c_together():
    N, threshold = 8, 0.3
    model, xs, ds = lstm_case(N)
    w = weights(model)
    s = lstm_states(w, xs)
    _, got = product(model, one_stream(xs, ds), FullBPTT(clip_adjoint=threshold))
    dW, dR, arriving, cut = torch.zeros(4 * H, I), torch.zeros(4 * H, H), torch.zeros(2 * H), 0
    for t in range(N, 0, -1):
        from_error = 2 * (w.weight_out @ s[t][:H] + w.bias_out - ds[t - 1]) @ w.weight_out
        delta = arriving + torch.cat((from_error, torch.zeros(H)))
        if delta.norm() > threshold:
            delta, cut = delta / delta.norm() * threshold, cut + 1
        at = (w.weight_ih, w.weight_hh, w.bias, xs[t - 1], s[t - 1])
        ds_dW, ds_dR, ds_ds = torch.func.jacrev(lstm_step, argnums=(0, 1, 4))(*at)
        dW += torch.tensordot(delta, ds_dW, 1)
        dR += torch.tensordot(delta, ds_dR, 1)
        arriving = delta @ ds_ds
    assert cut
    same(got.weight_ih, dW)
    same(got.weight_hh, dR)
    same(got.initial.flatten(), arriving)
