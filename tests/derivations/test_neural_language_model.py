"""*A Derivation of Back Propagation Through Time* (Pengyu He): a language model, with ∂s/∂W and ∂s/∂U recursively forward.

The text numbers its equations (1)–(8), and so do the lines here. Its letters:

    U = weight_ih (m, V)    W = weight_hh (m, m)    V = the head's weight (V, m)    s^t = h_t    g^t = o_t of the head    o^t = ŷ_t
    F the activation        f the output function, of the whole vector g^t         N = T    m = H

Slips in the text, met below:
    * U ∈ R^{V×m} and V ∈ R^{m×V} are the transposes of what s = W s + U x and g = V s need: U is m × V and V is V × m.
    * The sums over s in (3), (5), (6), (8) run over the outputs g_s: to V, not to m. (And s is an index there, not the state.)
    * (6) leaves Σ_r with r = i alone. W_ij changes s_i^{t−1} and through W every s_r^t, so that ∂s_r^t/∂W_ij ≠ 0 for r ≠ i from the
      third step on (from the second where s^0 is not zero). (8), for U, keeps the sum over r and is right.
    * The hidden layer's F is announced and then missing from s^t = W s^{t−1} + U x^t; with it, each recursion has a factor F′.
    * The display before (8) (∂o/∂U as the sum of itself) is garbled. (8) numbers two displays and (7) none; here (7) is ∂L/∂U.
    * V is both the vocabulary's size and a matrix; here the size is ``VOCABULARY``.
"""

from dataclasses import dataclass

import pytest
import torch
from _literal import Weights, differs, network, one_stream, product, same, weights
from torch import Tensor

from throughtime.cells import Elman, Identity, Sigmoid, Tanh
from throughtime.gradients import FullBPTT, TruncatedBPTT
from throughtime.models import Embedding, OneHot, Softmax, SquaredError

N, VOCABULARY, m = 5, 6, 3


def positive_shares(g):
    """A distribution other than softmax: softplus, divided by its sum over the whole vector."""
    y = torch.nn.functional.softplus(g)
    return y / y.sum(-1, keepdim=True)


def cumulative(g):
    """No distribution, and no elementwise function: every output depends on all those before it."""
    return torch.sin(g).cumsum(-1)


@dataclass
class Text:
    """The formulas with their indices, over plain Python numbers; t from 1 to N, every other index from 0."""

    F: object
    f: object
    w: Weights
    xs: Tensor  # (N, V) one-hot vectors or distributions
    ds: Tensor  # (N, V) distributions

    def __post_init__(self) -> None:
        w = self.w
        s, g, o, dF, df = [w.initial[0]], [None], [None], [None], [None]
        for t in range(1, len(self.xs) + 1):
            a = w.weight_hh @ s[t - 1] + w.weight_ih @ self.xs[t - 1]
            s.append(self.F(a))  # s^t = W s^{t−1} + U x^t, and F
            g.append(w.weight_out @ s[t])  # g^t = V s^t
            o.append(self.f(g[t]))
            dF.append(torch.func.jacrev(self.F)(a).diagonal())  # F′(a_r)
            df.append(torch.func.jacrev(self.f)(g[t]))  # ∂o_k/∂g_s
        self.U, self.W, self.V = (p.tolist() for p in w[:3])
        self.x, self.d = [None, *self.xs.tolist()], [None, *self.ds.tolist()]
        self.s, self.g, self.o, self.dF, self.df = ([v if v is None else v.tolist() for v in each] for each in (s, g, o, dF, df))
        self.steps = range(1, len(self.xs) + 1)

    def L(self):
        return 0.5 * sum((self.d[t][k] - self.o[t][k]) ** 2 for t in self.steps for k in range(VOCABULARY))  # (1)

    def ds_dW(self, i, j):
        """[t][r] = ∂s_r^t/∂W_ij, forward in time: F′_r · (δ_ri s_j^{t−1} + Σ_p W_rp ∂s_p^{t−1}/∂W_ij)   (6), for every r."""
        d = [[0.0] * m]
        for t in self.steps:
            d.append([self.dF[t][r] * ((r == i) * self.s[t - 1][j] + sum(self.W[r][p] * d[t - 1][p] for p in range(m))) for r in range(m)])
        return d

    def ds_dU(self, i, j):
        """[t][r] = ∂s_r^t/∂U_ij, forward in time: F′_r · (Σ_p W_rp ∂s_p^{t−1}/∂U_ij + δ_ri x_j^t)   (8), last line."""
        d = [[0.0] * m]
        for t in self.steps:
            d.append([self.dF[t][r] * (sum(self.W[r][p] * d[t - 1][p] for p in range(m)) + (r == i) * self.x[t][j]) for r in range(m)])
        return d

    def do(self, t, k, ds, *, r_from=range(m), s_from=range(VOCABULARY)):
        """Σ_s Σ_r ∂o_k/∂g_s · V_sr · ∂s_r/∂θ   (5), (8)."""
        return sum(self.df[t][k][s] * self.V[s][r] * ds[t][r] for s in s_from for r in r_from)

    def dL(self, do):
        """Σ_t Σ_k (o_k − d_k) ∂o_k/∂θ   (2), (4), (7), with ``do(t, k)`` for the last factor."""
        return sum((self.o[t][k] - self.d[t][k]) * do(t, k) for t in self.steps for k in range(VOCABULARY))

    def dL_dV(self, *, s_from=range(VOCABULARY)):
        def entry(i, j):
            return self.dL(lambda t, k: sum(self.df[t][k][s] * (s == i) * self.s[t][j] for s in s_from))  # (2), (3): ∂g_s/∂V_ij = δ_si s_j

        return table(VOCABULARY, m, entry)

    def dL_dW(self, **sums):
        def entry(i, j):
            ds = self.ds_dW(i, j)
            return self.dL(lambda t, k: self.do(t, k, ds, **sums))  # (4), (5)

        return table(m, m, entry)

    def dL_dU(self, **sums):
        def entry(i, j):
            ds = self.ds_dU(i, j)
            return self.dL(lambda t, k: self.do(t, k, ds, **sums))  # (7), (8)

        return table(m, VOCABULARY, entry)

    def dL_dW_as_printed(self):
        """(6) to the letter: at the output, only r = i."""

        def entry(i, j):
            ds = self.ds_dW(i, j)
            return self.dL(lambda t, k: self.do(t, k, ds, r_from=[i]))

        return table(m, m, entry)


def table(rows, columns, entry):
    return torch.tensor([[entry(i, j) for j in range(columns)] for i in range(rows)])


def case(*, F=Identity(), f=Softmax(), words="one-hot", steps=N):  # noqa: B008  frozen dataclasses
    model = network(Elman(F), OneHot(VOCABULARY), m, VOCABULARY, output=f, loss=SquaredError(0.5), gain=1.2, seed=8)
    chance = torch.Generator().manual_seed(108)
    if words == "one-hot":
        inputs = torch.randint(VOCABULARY, (steps,), generator=chance)
        xs = torch.eye(VOCABULARY)[inputs]
    else:
        inputs = xs = torch.rand(steps, VOCABULARY, generator=chance).softmax(1)
    ds = torch.randn(steps, VOCABULARY, generator=chance).softmax(1)
    return model, Text(F, f, weights(model), xs, ds), inputs, ds


by_name = {"ids": lambda f: getattr(f, "__name__", str(f))}
any_F = pytest.mark.parametrize("F", [Identity(), Tanh(), Sigmoid(), torch.sin], **by_name)
any_f = pytest.mark.parametrize("f", [Softmax(), positive_shares, cumulative], **by_name)
any_words = pytest.mark.parametrize("words", ["one-hot", "distribution"])


@any_words
@any_f
def test_forward_and_loss(words, f):
    model, text, inputs, ds = case(f=f, words=words)
    batch = one_stream(inputs, ds)
    hs, _ = model.recurrence(model.embed(batch))
    same(hs[:, 0], torch.tensor(text.s[1:]))  # s_i^t = Σ_p W_ip s_p^{t−1} + Σ_p U_ip x_p^t
    same(model.head(hs)[:, 0], torch.tensor(text.g[1:]))  # g_s^t = Σ_r V_sr s_r^t
    o = model.head.predict(hs)[:, 0]
    same(o, torch.tensor(text.o[1:]))  # o^t = f(g^t)
    if f is not cumulative:
        same(o.sum(1), torch.ones(N))  # a distribution over the vocabulary
    same(product(model, batch)[0], torch.tensor(text.L()))  # (1)


@any_words
@any_F
@any_f
def test_derivatives_forward_in_time_equal_backpropagation(words, F, f):
    """(2)–(8): no step of the text's recursions goes back in time, and no step of the package's goes forward."""
    model, text, inputs, ds = case(F=F, f=f, words=words)
    _, got = product(model, one_stream(inputs, ds))
    same(got.weight_out, text.dL_dV())  # (2), (3)
    same(got.weight_hh, text.dL_dW())  # (4), (5), (6)
    same(got.weight_ih, text.dL_dU())  # (7), (8)


@pytest.mark.parametrize("method", [FullBPTT(), TruncatedBPTT(N), TruncatedBPTT(1, N), TruncatedBPTT(2, N)], ids=str)
def test_every_exact_method(method):
    model, text, inputs, ds = case(F=Tanh())
    _, got = product(model, one_stream(inputs, ds), method)
    same(got.weight_out, text.dL_dV())
    same(got.weight_hh, text.dL_dW())
    same(got.weight_ih, text.dL_dU())


def test_the_output_function_has_a_full_jacobian():
    """(3): ∂o_k/∂g_s of softmax is o_k (δ_ks − o_s), and what lies off its diagonal counts."""
    model, text, inputs, ds = case()
    for t in text.steps:
        o = text.o[t]
        same(torch.tensor(text.df[t]), table(VOCABULARY, VOCABULARY, lambda k, s, o=o: o[k] * ((k == s) - o[s])))
    _, got = product(model, one_stream(inputs, ds))
    diagonal = table(VOCABULARY, m, lambda i, j: text.dL(lambda t, k: (k == i) * text.df[t][k][i] * text.s[t][j]))
    differs(diagonal, got.weight_out)


def test_sums_over_the_outputs_run_to_V():
    """(3), (5) and (8) as printed, Σ_{s=1}^{m}, leave out the outputs beyond m; (3) then has only zeros for them."""
    model, text, inputs, ds = case()
    _, got = product(model, one_stream(inputs, ds))
    differs(text.dL_dW(s_from=range(m)), got.weight_hh)
    differs(text.dL_dU(s_from=range(m)), got.weight_ih)
    differs(text.dL_dV(s_from=range(m)), got.weight_out)
    short = table(VOCABULARY, m, lambda i, j: text.dL(lambda t, k: text.df[t][k][i] * text.s[t][j]))
    same(got.weight_out, short)  # (3), its last form, where only s = i is left of the sum


def test_equation_6_drops_what_reaches_the_other_units():
    """As printed, right for as long as s_r, r ≠ i, has not felt W_ij: for two steps from s^0 = 0, one step from any other s^0."""
    for steps, zero_start, right in ((1, False, True), (2, False, False), (2, True, True), (3, True, False), (N, True, False)):
        model, _, inputs, ds = case(steps=steps)
        if zero_start:
            model.recurrence.initial.data.zero_()
        xs = torch.eye(VOCABULARY)[inputs]
        text = Text(Identity(), Softmax(), weights(model), xs, ds)
        _, got = product(model, one_stream(inputs, ds))
        same(got.weight_hh, text.dL_dW())
        if right:
            same(got.weight_hh, text.dL_dW_as_printed())
        else:
            differs(text.dL_dW_as_printed(), got.weight_hh)


def test_the_missing_F_prime():
    """With F = tanh, the recursions as printed, without F′, are of another network."""
    model, text, inputs, ds = case(F=Tanh())
    _, got = product(model, one_stream(inputs, ds))
    text.dF = [None, *([1.0] * m for _ in text.steps)]
    differs(text.dL_dW(), got.weight_hh)
    differs(text.dL_dU(), got.weight_ih)


def test_an_embedding_is_a_factor_of_U():
    """x^t = Eᵀ w^t makes the text's U the product U Eᵀ: ∂L/∂U = (∂L/∂(U Eᵀ)) E and ∂L/∂E = (∂L/∂(U Eᵀ))ᵀ U, of indices or distributions."""
    size = 4
    for words in ("one-hot", "distribution"):
        _, _, inputs, ds = case(words=words)
        model = network(Elman(Tanh()), Embedding(VOCABULARY, size), m, VOCABULARY, loss=SquaredError(0.5), seed=9)
        w, E = weights(model), model.input.weight.detach().clone()
        xs = inputs if inputs.is_floating_point() else torch.eye(VOCABULARY)[inputs]
        text = Text(Tanh(), Softmax(), w._replace(weight_ih=w.weight_ih @ E.T), xs, ds)
        _, got = product(model, one_stream(inputs, ds))
        dU = text.dL_dU()
        same(got.weight_ih, dU @ E)
        same(model.input.weight.grad, dU.T @ w.weight_ih)
        same(got.weight_hh, text.dL_dW())
