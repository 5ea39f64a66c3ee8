"""SnAp, e-prop and RFLO against literal transcriptions of their recursions: the papers' in numpy loops, and dense ones by autograd."""

import numpy as np
import pytest
import torch
from _past import I, V, advance, calls, cut, language_model, ragged, randomised, text, vector_model, vectors, whole_past
from _tables import first, name
from _truth import assert_close

from throughtime import InputError
from throughtime.cells import GRU, LSTM, Elman, FromCallable, Identity, Leaky, Sigmoid, Tanh
from throughtime.data import Batch
from throughtime.gradients import RFLO, RTRL, EProp, FullBPTT, RandomFeedback, SnAp, Symmetric, TruncatedBPTT
from throughtime.models import Head, OneHot, SequenceModel
from throughtime.nn import Learnable, Recurrence, Zeros

LOCAL = [Elman(), Elman(Sigmoid()), Leaky(0.3), GRU(), LSTM()]
H = 5


def sigma(a):
    return 1 / (1 + np.exp(-a))


def numpy_local(model, batch, feedback):
    """e-prop as published, one stream, one unit and one weight after another: leaky units (RFLO), GRU or LSTM; loss Σ_k (y_k − ŷ_k)²."""
    cell, r = model.recurrence.cell, model.recurrence
    G = cell.gates
    W, R, b, c_ = (p.detach().numpy() for p in (r.weight_ih_l0, r.weight_hh_l0, r.bias_ih_l0, r.bias_hh_l0))
    Vout, c_out = model.head.weight.detach().numpy(), model.head.bias.detach().numpy()
    dW, dR, db, dbh, d0 = np.zeros_like(W), np.zeros_like(R), np.zeros_like(b), np.zeros_like(c_), np.zeros((cell.states, H))
    for s in range(batch.B):
        h, c = np.zeros(H), np.zeros(H)
        first = r.initial.detach().numpy()[:, 0]
        h, c = first[0].copy(), first[-1].copy()
        ew, er = np.zeros((G, H, I + 1)), np.zeros((G, H, H + 1))  # traces of c for LSTM, of h else
        e0 = np.zeros((cell.states, H))
        e0[-1] = 1
        for t in range(batch.T):
            x = np.append(batch.inputs[t, s].numpy(), 1.0)
            hh = np.append(h, 1.0)
            wx, rh = (W @ x[:-1] + b).reshape(G, H), (R @ h + c_).reshape(G, H)
            e, e_r, e_0, h, c = LITERAL[type(cell)](cell, wx, rh, h, c, x, hh, ew, er, e0)
            y = Vout @ h + c_out
            delta = 2 * (y - batch.targets[t, s].numpy())
            signal = delta @ (Vout if feedback is None else feedback)
            for g in range(G):
                for j in range(H):
                    dW[g * H + j] += signal[j] * e[g, j, :-1]
                    db[g * H + j] += signal[j] * e[g, j, -1]
                    dR[g * H + j] += signal[j] * e_r[g, j, :-1]
                    dbh[g * H + j] += signal[j] * e_r[g, j, -1]
            d0 += signal * e_0
    return [torch.as_tensor(d) for d in (dW, dR, db, dbh)], torch.as_tensor(d0)


def leaky_step(cell, wx, rh, h, c, x, hh, ew, er, e0):
    alpha = cell.alpha
    y = np.tanh(wx[0] + rh[0])
    for j in range(H):
        ew[0, j] = (1 - alpha) * ew[0, j] + alpha * (1 - y[j] ** 2) * x
        er[0, j] = (1 - alpha) * er[0, j] + alpha * (1 - y[j] ** 2) * hh
    e0[:] = (1 - alpha) * e0
    return ew, er, e0, (1 - alpha) * h + alpha * y, c


def gru_step(cell, wx, rh, h, c, x, hh, ew, er, e0):
    r, z = sigma(wx[0] + rh[0]), sigma(wx[1] + rh[1])
    n = np.tanh(wx[2] + r * rh[2])
    dn = (1 - z) * (1 - n**2)
    own = np.stack((dn * rh[2] * r * (1 - r), (h - n) * z * (1 - z), dn))
    for g in range(3):
        for j in range(H):
            ew[g, j] = z[j] * ew[g, j] + own[g, j] * x
            er[g, j] = z[j] * er[g, j] + own[g, j] * (r[j] if g == 2 else 1) * hh
    e0[:] = z * e0
    return ew, er, e0, (1 - z) * n + z * h, c


def lstm_step(cell, wx, rh, h, c, x, hh, ew, er, e0):
    i, f, g, o = sigma(wx[0] + rh[0]), sigma(wx[1] + rh[1]), np.tanh(wx[2] + rh[2]), sigma(wx[3] + rh[3])
    c_next = f * c + i * g
    into_c = np.stack((g * i * (1 - i), c * f * (1 - f), i * (1 - g**2), np.zeros(H)))
    into_h = np.stack((np.zeros(H), np.zeros(H), np.zeros(H), np.tanh(c_next) * o * (1 - o)))  # ∂h/∂W at fixed c
    slope = o * (1 - np.tanh(c_next) ** 2)  # ∂h/∂c
    out = []
    for trace, inputs in ((ew, x), (er, hh)):
        e = np.zeros_like(trace)
        for k in range(4):
            for j in range(H):
                trace[k, j] = f[j] * trace[k, j] + into_c[k, j] * inputs
                e[k, j] = slope[j] * trace[k, j] + into_h[k, j] * inputs
        out.append(e)
    e0[1] = f * e0[1]
    return *out, np.stack((np.zeros(H), slope * e0[1])), o * np.tanh(c_next), c_next


LITERAL = {Leaky: leaky_step, GRU: gru_step, LSTM: lstm_step}


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("cell", [Leaky(0.3), Leaky(1.0), GRU(), LSTM()], ids=name)
def test_eprop_and_rflo_are_the_papers_recursions(cell, seed):
    model, batch = vector_model(cell), vectors()
    feedback = Symmetric() if seed is None else RandomFeedback(seed)
    matrix = None if seed is None else torch.empty(1, 2, H).normal_(0, H**-0.5, generator=torch.Generator().manual_seed(seed))[0].numpy()
    wanted, initial = numpy_local(model, batch, matrix)
    exact = whole_past(model, [batch])
    for method in [EProp(feedback), *([RFLO(feedback)] if isinstance(cell, Leaky) else [])]:
        calls(method, model, cut(batch))
        got = {n: p.grad for n, p in model.named_parameters()}
        assert_close([got[f"recurrence.{n}_l0"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")], wanted)
        assert_close([got["recurrence.initial"][:, 0]], [initial])
        assert_close([got["head.weight"], got["head.bias"]], exact[-3:-1])


def surrogate(model, batches, *, own_weight=False, matrices=None):
    """Autograd of a loss whose graph is cut by hand: a unit's state reaches itself, and (own_weight) through its own recurrent weight.

    ℓ_t is found on a graph of its own, from leaves at t − 1.
    """
    model.zero_grad()
    r, total = model.recurrence, torch.zeros(())
    state = None
    for batch in batches:
        new = model.initial_state(batch.B)
        if state is None:
            state = new
        elif batch.fresh is not None:
            state = tuple(torch.where(batch.fresh.view(1, -1, 1), a, b) for a, b in zip(new, state, strict=True))
        for t in range(batch.T):
            one = batch.steps(t, t + 1)
            signals, loss = signals_at(model, one, state, matrices, model.scale(batch))
            total = total + loss
            below, leaving = model.embed(one)[0], []
            for l in range(r.num_layers):
                p, s = r.parameters_of(l), tuple(part[l] for part in state)
                wx = torch.einsum("bi,ghi->bgh", below if l == 0 else below.detach(), p.W) + p.b_ih
                rh = torch.einsum("bi,ghi->bgh", s[0].detach(), p.R) + p.b_hh
                if own_weight:
                    rh = rh + torch.einsum("bj,gjj->bgj", s[0] - s[0].detach(), p.R.detach())
                leaving.append(r.cell.step(wx, rh, s))
                below = leaving[-1][0]
                total = total + (signals[l] * (below - below.detach())).sum()
            state = tuple(torch.stack(parts) for parts in zip(*leaving, strict=True))
    total.backward()
    return [*(torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()), total.detach()]


def signals_at(model, one, state, matrices, scale):
    """ℓ_t of each layer with s_{t−1} held fast, and the loss with the head's parameters alone in its graph."""
    r, hs, state = model.recurrence, [], tuple(s.detach() for s in state)
    below = model.embed(one)[0].detach()
    for l in range(r.num_layers):
        p, s = r.parameters_of(l), tuple(part[l] for part in state)
        after = r.cell.step(torch.einsum("bi,ghi->bgh", below, p.W) + p.b_ih, torch.einsum("bi,ghi->bgh", s[0], p.R) + p.b_hh, s)
        below = after[0]
        hs.append(below)
    loss = model.losses(hs[-1].unsqueeze(0), one).sum() * scale
    alone = model.losses(hs[-1].detach().unsqueeze(0), one).sum() * scale
    if matrices is None:
        return [s.detach() for s in torch.autograd.grad(loss, hs)], alone
    o = model.head(hs[-1].detach().unsqueeze(0)).detach().requires_grad_()
    losses = model.weighed(model.head.loss.per_step(o, one.targets, model.head.output), one)
    (delta,) = torch.autograd.grad(losses.sum() * scale, o)
    return [delta[0] @ m for m in matrices], alone


@pytest.mark.parametrize("layers", first([3], [1, 3]))
@pytest.mark.parametrize("cell", LOCAL, ids=name)
def test_eprop_in_a_stack_with_masks_and_fresh_streams(cell, layers):
    model = vector_model(cell, layers)
    batches = [ragged(b) for b in cut(vectors(), fresh={5: torch.tensor([False, True, False, False])})]
    assert_close(calls(EProp(), model, batches)[0], surrogate(model, batches))
    matrices = torch.empty(layers, 2, H).normal_(0, H**-0.5, generator=torch.Generator().manual_seed(7))
    got, _ = calls(EProp(RandomFeedback(7)), model, batches)
    assert_close(got, surrogate(model, batches, matrices=matrices))
    if isinstance(cell, Elman | Leaky):
        assert_close(calls(RFLO(RandomFeedback(7)), model, batches)[0], got)


@pytest.mark.parametrize("cell", LOCAL, ids=name)
def test_snap_1_is_the_own_unit_block(cell):
    model = language_model(cell, embedding_size=0)
    batches = [ragged(b) for b in cut(text(), fresh={5: torch.tensor([False, True, False, False])})]
    assert_close(calls(SnAp(1), model, batches)[0], surrogate(model, batches, own_weight=True))


def dense_snap(model, batch, order):
    """SnAp-n as defined, one stream after another: dense J_t and I_t by autograd, patterns off their nonzeros, M̃ masked at each step."""
    recurrent = list(model.recurrence.parameters())
    total = [torch.zeros_like(p) for p in recurrent]
    for b in range(batch.B):
        one = Batch(batch.inputs[:, b : b + 1], batch.targets[:, b : b + 1])
        steps, state = [], tuple(s.detach() for s in model.initial_state(1))
        for t in range(batch.T):
            leaves = torch.stack(state).requires_grad_()  # (S, L, 1, H)
            h, after = advance(model, model.embed(one.steps(t, t + 1))[0], tuple(leaves))
            after = torch.stack(after)
            found = [torch.autograd.grad(s, (leaves, *recurrent), retain_graph=True, allow_unused=True) for s in after.flatten()]
            J = torch.stack([f[0].flatten() for f in found])
            own = [
                torch.cat([torch.zeros_like(p).flatten() if d is None else d.flatten() for p, d in zip(recurrent, f[1:], strict=True)])
                for f in found
            ]
            top = h.detach().requires_grad_()
            (c,) = torch.autograd.grad(model.losses(top.unsqueeze(0), one.steps(t, t + 1)).sum(), top)
            into = torch.zeros_like(after)
            into[0, -1] = c
            steps.append((J, torch.stack(own), into.flatten()))
            state = tuple(after.detach())
        S, L = after.shape[:2]

        def units(pattern, S=S, L=L):
            """Which whole units of s a pattern (n, columns) touches, again (n, columns)."""
            return pattern.view(S, L * H, -1).any(0).repeat(S, 1)

        J_pattern = units(sum(J.abs() for J, _, _ in steps) > 0)
        pattern = units(sum(own.abs() for _, own, _ in steps) > 0)
        for _ in range(order - 1):
            pattern = pattern | (J_pattern.double() @ pattern.double() > 0)
        M, g = torch.zeros_like(steps[0][1]), 0
        for J, own, c in steps:
            M = (J @ M + own) * pattern
            g = g + c @ M
        for p, d in zip(total, g.split([p.numel() for p in recurrent]), strict=True):
            p += d.view_as(p)
    return total


@pytest.mark.parametrize("order", first([2], [1, 2, 3]))
@pytest.mark.parametrize(("cell", "layers"), [(Elman(), 1), (GRU(), 1), (LSTM(), 1), (Elman(), 2), (LSTM(), 2)], ids=str)
def test_snap_of_sparse_networks_is_its_definition(cell, layers, order):
    model = vector_model(cell, layers, initial=Zeros())
    model.train()
    for l in range(layers):
        R = model.recurrence.get_parameter(f"weight_hh_l{l}")
        R.data *= (torch.rand(H, H) < 0.25).repeat(cell.gates, 1)
        if l > 0:
            model.recurrence.get_parameter(f"weight_ih_l{l}").data *= (torch.rand(H, H) < 0.3).repeat(cell.gates, 1)
    batch = vectors(6, 2)
    wanted = dense_snap(model, batch, order)
    calls(SnAp(order), model, cut(batch, (0, 2, 6)))
    assert_close([p.grad for p in model.recurrence.parameters()], wanted)


def test_snap_2_of_dense_weights_is_rtrl_and_snap_1_is_not():
    model, batches = language_model(GRU()), cut(text())
    exact, _ = calls(RTRL(), model, batches)
    assert_close(calls(SnAp(2), model, batches)[0], exact)
    first, _ = calls(SnAp(1), model, batches)
    assert max(float((a - b).abs().max()) for a, b in zip(first, exact, strict=True)) > 1e-3


def test_local_rules_of_the_simple_network_see_one_step():
    """With α = 1 a unit keeps nothing of itself."""
    model, batches = vector_model(Elman(), 2, initial=Zeros()), cut(vectors())
    wanted, _ = calls(TruncatedBPTT(1), model, batches)
    for method in (EProp(), RFLO(Symmetric())):
        assert_close(calls(method, model, batches)[0], wanted)


def test_independent_units_are_followed_exactly():
    """Where R is diagonal SnAp-1 is RTRL; where it is zero so is e-prop."""
    model, batches = vector_model(LSTM()), cut(vectors())
    R = model.recurrence.weight_hh_l0
    R.data *= torch.eye(H).repeat(4, 1)
    exact, _ = calls(RTRL(), model, batches)
    assert_close(calls(SnAp(1), model, batches)[0], exact)
    R.data.zero_()
    assert_close(calls(EProp(), model, batches)[0], whole_past(model, batches))


@pytest.mark.parametrize("method", [SnAp(1), EProp(), EProp(RandomFeedback(1))], ids=str)
def test_an_embedding_is_a_table_of_its_own_through_W(method):
    """wx_v = W e_v + b: the gradient of a one-hot network with that table, taken on by the chain rule."""
    model, batches = language_model(GRU()), cut(text())
    W, E = model.recurrence.weight_ih_l0, model.input.weight
    plain = SequenceModel(OneHot(V), Recurrence(GRU(), V, H, initial=Learnable()), Head(H, V), reduction="sum")
    named = {n: p.detach().clone() for n, p in model.named_parameters() if n != "input.weight"}
    named["recurrence.weight_ih_l0"] = (W @ E.T).detach()
    plain.load_state_dict(named)
    calls(method, plain, batches)
    calls(method, model, batches)
    table = plain.recurrence.weight_ih_l0.grad
    assert_close([W.grad, E.grad], [table @ E, table.T @ W])
    for n, p in plain.named_parameters():
        if n != "recurrence.weight_ih_l0":
            assert_close([model.get_parameter(n).grad], [p.grad])


def test_one_call_or_many_and_rows_that_come_later():
    for model, batch in ((language_model(LSTM(), 2), text()), (language_model(GRU()), text(7, 1))):
        for method in (SnAp(1), EProp(), EProp(RandomFeedback(2))):
            whole, _ = calls(method, model, [batch])
            parts, _ = calls(method, model, cut(batch, range(batch.T + 1)))
            assert_close(parts, whole)


def test_dropout_between_layers_is_part_of_the_step_and_on_an_embedding_is_refused():
    """Where there is one step nothing is left out."""
    model, batch = vector_model(LSTM(), 3, dropout=0.5, initial=Zeros()), vectors(1)
    torch.manual_seed(1)
    wanted, _ = calls(FullBPTT(), model, [batch])
    torch.manual_seed(1)
    assert_close(calls(EProp(), model, [batch])[0], wanted)
    with pytest.raises(NotImplementedError, match=r"SnAp\(order=1\) follows an embedding through.*use RTRL\(\), UORO\(seed\)"):
        SnAp(1).accumulate(language_model(GRU(), dropout=0.5), text())
    SnAp(1).accumulate(language_model(GRU(), dropout=0.5, input_dropout=0.0), text())


def test_cells_that_a_rule_is_not_defined_for_are_refused_by_name():
    with pytest.raises(NotImplementedError, match=r"RFLO\(.*is defined for leaky units.*got LSTM\(\). EProp\(feedback=...\)"):
        RFLO().accumulate(language_model(LSTM()), text())
    with pytest.raises(NotImplementedError, match=r"EProp\(.*mixes its units.*RTRL\(\), UORO\(seed\)"):
        EProp().accumulate(language_model(Elman(torch.sin)), text())
    with pytest.raises(NotImplementedError, match=r"RFLO\(.*is defined for leaky units"):
        RFLO().accumulate(language_model(Leaky(0.5, FromCallable(torch.sin))), text())
    with pytest.raises(InputError, match=r"alpha is 0.0; expected a number above 0, at most 1"):
        Leaky(0.0)
    assert repr(RFLO()) == "RFLO(feedback=RandomFeedback(seed=0))"
    assert (Leaky(0.5, Identity()).elementwise, Leaky(0.5, Tanh()).elementwise) == (True, True)


def test_random_feedback_carries_no_weight_of_the_head():
    """The recurrent gradient stays what it is when δ stays what it is: with targets moved by what the head's change moved."""
    model, batch = vector_model(Leaky(0.3)), vectors()
    first, _ = calls(RFLO(), model, [batch])
    hs, _ = model.recurrence(model.embed(batch))
    before = model.head(hs).detach()
    randomised(model.head)
    moved = Batch(batch.inputs, batch.targets + model.head(hs).detach() - before)
    second, _ = calls(RFLO(), model, [moved])
    assert_close(second, first)
