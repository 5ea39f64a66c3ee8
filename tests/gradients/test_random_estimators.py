"""UORO and KF-RTRL: literal recursions under given signs, the exact expectation over all signs, and draws with a confidence bound."""

import math
from dataclasses import replace

import pytest
import torch
from _past import B, I, T, advance, calls, copies, cut, language_model, ragged, text, vector_model, vectors, whole_past
from _tables import CELLS, KINDS, Coupled, first, name, skewed
from _truth import assert_close, rounding

from throughtime.cells import GRU, LSTM, Elman, Leaky
from throughtime.data import Batch
from throughtime.gradients import KFRTRL, RTRL, UORO
from throughtime.gradients.forward._signs import Signs
from throughtime.nn import Zeros


def every_sign(monkeypatch, streams: int) -> list[int]:
    """Make stream b draw the b-th of all sign patterns; the list counts the signs that a stream has drawn."""
    drawn = [0]

    def draw(self, *shape, like):
        at = [i for i, n in enumerate(shape) if n == streams]
        assert len(at) == 1, "the number of streams must be told from the other sizes"
        others = [n for n in shape if n != streams]
        each = math.prod(others)
        bits = (torch.arange(streams).unsqueeze(1) >> (drawn[0] + torch.arange(each))) & 1  # (streams, each)
        drawn[0] += each
        return (2 * bits - 1).to(like).T.reshape(*others, streams).movedim(-1, at[0])

    monkeypatch.setattr(Signs, "draw", draw)
    return drawn


def some_estimates(method, model, batches) -> list[list[torch.Tensor]]:
    """What 20 seeds find."""
    return [calls(replace(method, seed=seed), model, batches)[0] for seed in range(20)]


def of_a_sum(terms: int, estimates: list[list[torch.Tensor]], wanted: list[torch.Tensor]) -> float:
    """The rounding of a sum of so many terms one after another, as a matrix product may add them. Its condition: how much larger the
    terms are than their mean, since what is added up to in the end is a small rest of what was met on the way."""
    largest = lambda xs: max(float(x.abs().max()) for x in xs)
    ratios = [largest(ones) / float(w.abs().max()) for *ones, w in zip(*estimates, wanted, strict=True)]
    return rounding(terms, condition=max(1.0, *ratios))


# method, cell, layers, H, T, how many signs a stream draws: n a step for UORO and n at the start; two a step and product for KF-RTRL
ENUMERATED = [
    (UORO(), Elman(), 1, 2, 4, 10),
    (UORO(), Elman(skewed), 1, 2, 3, 8),
    (UORO(), GRU(), 1, 2, 4, 10),
    (UORO(), LSTM(), 1, 1, 4, 10),
    (UORO(), GRU(), 2, 1, 4, 10),
    (UORO(), LSTM(), 2, 1, 2, 12),
    (UORO(), Coupled(), 1, 1, 4, 10),
    (KFRTRL(), Elman(), 1, 3, 5, 10),
    (KFRTRL(), Elman(skewed), 1, 3, 5, 10),
    (KFRTRL(), Leaky(0.3), 1, 3, 5, 10),
    (KFRTRL(), GRU(), 1, 3, 3, 12),
    (KFRTRL(), LSTM(), 1, 3, 5, 10),
    (KFRTRL(), Coupled(), 1, 3, 3, 12),
]


@pytest.mark.parametrize(
    ("method", "cell", "layers", "H", "T", "signs"), ENUMERATED, ids=lambda x: name(x) if not isinstance(x, int) else str(x)
)
@pytest.mark.parametrize("kind", first(["vectors"], ["vectors", "indices"]))
def test_the_expectation_over_all_signs_is_the_exact_gradient(monkeypatch, method, cell, layers, H, T, signs, kind):
    model = vector_model(cell, layers, H=H) if kind == "vectors" else language_model(cell, layers, H=H)
    batch = vectors(T, 1) if kind == "vectors" else text(T, 1)
    wanted, estimates = whole_past(model, [batch]), some_estimates(method, model, [batch])
    drawn = every_sign(monkeypatch, 2**signs)
    got, _ = calls(method, model, cut(copies(batch, 2**signs), (0, 1, T)))
    assert drawn == [signs]
    assert_close([g / 2**signs for g in got], wanted, of_a_sum(2**signs * T, estimates, wanted))


def one_hot_free(model):
    """(names of) what the literal recursions differentiate by, in a flat vector: the recurrence's parameters."""
    return [p for n, p in model.recurrence.named_parameters()]


def dense_step(model, one, state):
    """J_t (n, n), I_t (n, P), and c_t (n,) at the states after, of one stream, by autograd; n over (S, L, H)."""
    recurrent = one_hot_free(model)
    leaves = torch.stack(state).detach().requires_grad_()
    h, after = advance(model, model.embed(one)[0], tuple(leaves))
    after = torch.stack(after)
    found = [torch.autograd.grad(s, (leaves, *recurrent), retain_graph=True, allow_unused=True) for s in after.flatten()]
    own = [
        torch.cat([torch.zeros_like(p).flatten() if d is None else d.flatten() for p, d in zip(recurrent, f[1:], strict=True)])
        for f in found
    ]
    top = h.detach().requires_grad_()
    (c,) = torch.autograd.grad(model.losses(top.unsqueeze(0), one).sum(), top)
    into = torch.zeros_like(after)
    into[0, -1] = c
    return torch.stack([f[0].flatten() for f in found]), torch.stack(own), into.flatten(), tuple(after.detach())


@pytest.mark.parametrize("layers", first([2], [1, 2]))
@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM(), Coupled()], ids=name)
def test_uoro_is_its_recursion(cell, layers):
    """The paper's, dense, for each stream, with the signs of the same generator."""
    H, steps = 3, 5
    model, batch = vector_model(cell, layers, H=H, initial=Zeros()), vectors(steps, 2)
    got, _ = calls(UORO(7), model, cut(batch, (0, 2, steps)))
    chance, S = torch.Generator().manual_seed(7), cell.states
    nus = [2.0 * torch.randint(2, (S, layers, 2, H), generator=chance) - 1 for _ in range(steps)]
    total = 0
    for b in range(2):
        one = Batch(batch.inputs[:, b : b + 1], batch.targets[:, b : b + 1])
        state, s, theta = model.initial_state(1), torch.zeros(S * layers * H), torch.zeros(sum(p.numel() for p in one_hot_free(model)))
        for t in range(steps):
            J, own, c, state = dense_step(model, one.steps(t, t + 1), state)
            nu = nus[t][:, :, b].flatten()
            rho_0 = (theta.norm() / (J @ s).norm()).sqrt() if t > 0 else 1.0
            rho_1 = ((nu @ own).norm() / nu.norm()).sqrt()
            s = rho_0 * (J @ s) + rho_1 * nu
            theta = theta / rho_0 + (nu @ own) / rho_1
            total = total + (c @ s) * theta
    flat = torch.cat([g.flatten() for g in got[: len(one_hot_free(model))]])
    assert_close([flat], [total])


@pytest.mark.parametrize("cell", [Elman(), LSTM()], ids=name)
def test_kfrtrl_is_its_recursion(cell):
    """The paper's for cells that add W x and R h: one Kronecker product, û = (h; 1; x; 1)."""
    H, steps, S = 3, 5, cell.states
    model, batch = vector_model(cell, H=H, initial=Zeros()), vectors(steps, 2)
    got, _ = calls(KFRTRL(7), model, cut(batch, (0, 2, steps)))
    chance = torch.Generator().manual_seed(7)
    signs = [2.0 * torch.randint(2, (1, 2, 2), generator=chance) - 1 for _ in range(steps)]
    total = 0
    for b in range(2):
        one = Batch(batch.inputs[:, b : b + 1], batch.targets[:, b : b + 1])
        state, u, A = model.initial_state(1), torch.zeros(H + I + 2), torch.zeros(S * H, cell.gates * H)
        for t in range(steps):
            x = torch.cat((state[0].detach().flatten(), torch.ones(1), one.inputs[t, 0], torch.ones(1)))
            J, own, c, state = dense_step(model, one.steps(t, t + 1), state)
            D = own[:, -cell.gates * H :]  # by b_hh, whose input is 1
            sign, sign_own = signs[t][0, :, b]
            p1 = ((J @ A).norm() / u.norm()).sqrt() if t > 0 else 1.0
            p2 = (D.norm() / x.norm()).sqrt()
            u, A = sign * p1 * u + sign_own * p2 * x, sign * (J @ A) / p1 + sign_own * D / p2
            total = total + torch.outer(c @ A, u)
    W, R, b_ih, b_hh = got[:4]
    assert_close([R, b_hh, W, b_ih], [total[:, :H], total[:, H], total[:, H + 1 : -1], total[:, -1]])


@pytest.mark.slow
@pytest.mark.parametrize("method", [UORO, KFRTRL])
def test_the_mean_of_many_draws_is_within_five_standard_errors(method):
    """A right estimator fails this with a probability under 5e-5: 73 entries, 100 independent means of 50 streams, two-sided 5σ
    (5.7e-7 each, by the central limit theorem)."""
    model, batch = vector_model(GRU(), H=2), vectors(6, 1)
    *exact, _ = whole_past(model, [batch])
    draws = []
    for seed in range(100):
        *got, _ = calls(method(seed), model, [copies(batch, 50)])[0]
        draws.append(torch.cat([g.flatten() for g in got]) / 50)
    draws, wanted = torch.stack(draws), torch.cat([g.flatten() for g in exact])
    random = draws.std(0) > 1e-9  # the head's gradient is exact
    assert int(random.sum()) >= 40
    error = (draws.mean(0) - wanted).abs()[random] / (draws.std(0)[random] / math.sqrt(len(draws)))
    assert float(error.max()) < 5
    assert_close([draws.mean(0)[~random]], [wanted[~random]])


@pytest.mark.parametrize("cell", first([KINDS[0], LSTM()], CELLS), ids=name)
def test_one_call_or_many_and_the_seed(cell):
    for method, layers in ((UORO(3), 1), (UORO(3), 2), (KFRTRL(3), 1)):
        model = language_model(cell, layers)
        batch = ragged(text())
        whole, _ = calls(method, model, [batch])
        again, _ = calls(method, model, [batch])
        assert all(map(torch.equal, whole, again))
        parts, carry = calls(method, model, cut(batch))
        assert_close(parts, whole)
        assert not any(t.requires_grad or not t.is_contiguous() for t in carry.kept.values())
        other, _ = calls(type(method)(4), model, [batch])
        assert max(float((a - b).abs().max()) for a, b in zip(whole, other, strict=True)) > 1e-3


@pytest.mark.parametrize("initial", ["learnable", "zeros"])
@pytest.mark.parametrize("method", [UORO(), KFRTRL()], ids=str)
def test_a_fresh_stream_leaves_its_past_behind(monkeypatch, method, initial):
    """All sign patterns again, with a start in the middle: 2 + 2 before it, 2 + 4 after it, for UORO."""
    options = {} if initial == "learnable" else {"initial": Zeros()}
    model, batch = vector_model(Elman(), H=2, **options), vectors(3, 1)
    n = 2**14
    batches = cut(copies(batch, n), (0, 1, 3), fresh={1: torch.ones(n, dtype=torch.bool)})
    one = cut(batch, (0, 1, 3), fresh={1: torch.tensor([True])})
    wanted, estimates = whole_past(model, one), some_estimates(method, model, one)
    every_sign(monkeypatch, n)
    got, _ = calls(method, model, batches)
    assert_close([g / n for g in got], wanted, of_a_sum(3 * n, estimates, wanted))


def test_dropout_is_part_of_the_step(monkeypatch):
    """The mean over all signs with the same masks each time, which are those that RTRL draws."""
    model, batch = vector_model(GRU(), 2, H=1, dropout=0.5), vectors(2)
    torch.manual_seed(1)
    exact, _ = calls(RTRL(), model, [batch])
    total = [torch.zeros_like(g) for g in exact]
    for pattern in range(2**6):  # n = 2: two signs at the start and at each of 2 steps
        bits = iter([(pattern >> k & 3) for k in (0, 2, 4)])

        def draw(self, *shape, like, bits=bits):
            two = next(bits)
            signs = torch.tensor([2.0 * (two & 1) - 1, 2.0 * (two >> 1) - 1])
            layers = shape.index(2)
            return signs.view([2 if i == layers else 1 for i in range(len(shape))]).expand(shape).clone()

        monkeypatch.setattr(Signs, "draw", draw)
        torch.manual_seed(1)
        total = [a + g / 2**6 for a, g in zip(total, calls(UORO(), model, [batch])[0], strict=True)]
    assert_close(total, exact)


def test_a_stack_has_no_kronecker_product():
    with pytest.raises(NotImplementedError, match=r"KFRTRL\(seed=0\) needs.*that of 2 stacked layers is not.*UORO\(seed\).*RTRL\(\)"):
        KFRTRL().accumulate(language_model(GRU(), 2), text(T, B))
    with pytest.raises(NotImplementedError, match=r"KFRTRL\(seed=0\) follows an embedding through"):
        KFRTRL().accumulate(language_model(GRU(), dropout=0.5), text(T, B))
