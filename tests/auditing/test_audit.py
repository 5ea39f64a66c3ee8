"""``tt.audit``: every known fault is found and named, healthy loops give no alarm, and nothing is left changed."""

import json
import random

import numpy as np
import pytest
import torch
from _loops import FAULTY, HEALTHY, B, H, I, Loop, Net, T, parts, shuffled, stream
from torch import nn

import throughtime as tt
from throughtime.auditing import Audit, audit


def audited(loop: Loop, **said) -> Audit:
    return tt.audit(loop.step, loop.batches, **loop.said | said)


@pytest.mark.parametrize("name", FAULTY)
def test_a_known_fault_is_found_and_nothing_else(name):
    found = audited(FAULTY[name]())
    assert found.kinds() == [name.split(" (")[0]], str(found)
    assert all(f.evidence and f.remedy and f.kind in str(found) for f in found.alarms)


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_loop_gives_no_alarm(name):
    found = audited(HEALTHY[name]())
    assert (found.kinds(), found.replayed) == ([], True), str(found)


# What is measured.


def test_the_reach_is_that_of_the_chunks():
    (row,) = audited(HEALTHY["chunks inside of a step"]()).layers
    assert (row.reach, row.available, row.state_beyond) == ((4, 4), T, True)  # the last chunk could see all T; the state does
    (row,) = audited(HEALTHY["whole sequences"]()).layers
    assert (row.reach, row.available, row.state_beyond) == ((T, T), T, None)


def test_the_reach_grows_with_a_graph_that_is_kept():
    (finding,) = audited(FAULTY["state not detached"]()).alarms
    assert finding.evidence == {
        "earlier_steps_in_the_graph": 3, "reach_by_training_step": [2 * T, 3 * T, 4 * T], "backward_with_retain_graph": 4,
    }  # fmt: skip


def test_a_window_that_is_not_kept_is_said():
    (finding,) = audited(HEALTHY["truncated"](), window=5).alarms
    assert (finding.kind, finding.evidence["said"], finding.evidence["measured"]) == ("another window", 5, T)


def test_the_norms_of_a_clip_that_does_nothing():
    (finding,) = audited(FAULTY["clip before backward"]()).alarms
    assert (finding.evidence["calls"], finding.evidence["norm_when_clipped"]) == ("4 of 4", 0.0)
    assert finding.evidence["largest_norm_at_a_step"] > finding.evidence["limit"]


def test_a_clip_between_two_backward_passes():
    model, optimizer = parts()

    def step(batch):
        optimizer.zero_grad()
        for xs, ys in zip(*(part.chunk(2) for part in batch), strict=True):
            (model(xs)[0] - ys).square().mean().backward()
            if xs.data_ptr() == batch[0].data_ptr():
                torch.nn.utils.clip_grad_value_(model.parameters(), 0.1)
        optimizer.step()

    assert tt.audit(step, shuffled()).kinds() == ["clip before the last backward"]


def test_other_padding_gives_another_loss():
    (finding,) = audited(FAULTY["padding trains"]()).alarms
    assert finding.evidence["loss"] != finding.evidence["loss_with_other_padding"]
    assert finding.evidence["outputs_read_by_the_loss"] == finding.evidence["padded_steps"] == 7 * B - (7 + 5 + 6 + 4)
    (finding,) = audited(FAULTY["arithmetic on padding"]()).alarms
    assert finding.says == "69 % of the steps that the layer computes are padding."  # 1 − (60 + 5 + 6 + 4) / (4 · 60)


def test_a_state_that_was_carried_detached_is_seen_by_changing_an_input():
    (finding,) = audited(FAULTY["state carried across unrelated batches"]()).alarms
    assert finding.evidence["rows_changed_by_the_batch_before"] == f"{B} of {B}"
    assert finding.evidence["batches_that_begin_from"] == ["carried"] * 3


def test_a_start_at_the_first_step_of_a_batch():
    loop = HEALTHY["truncated"]()
    crossing = audited(loop._replace(said={}), starts=lambda batch: torch.tensor([True] + [False] * (B - 1)))
    assert crossing.kinds() == ["state crosses a reset"]
    assert crossing.alarms[0].evidence["crossed"] == 1


def test_a_state_of_ours_that_reset_puts_back_does_not_cross():
    torch.manual_seed(0)
    layer, fresh, held = tt.GRU(I, H, batch_first=True), torch.tensor([True, False, True, False]), {"state": None}
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)

    def step(batch):
        optimizer.zero_grad()
        hs, state = layer(batch[0], held["state"], reset=fresh)
        hs.square().mean().backward()
        optimizer.step()
        held["state"] = state.detach()

    assert not tt.audit(step, stream(), starts=lambda batch: fresh).alarms


# Whether the data go on.


def test_what_the_caller_says_comes_first():
    assert audited(HEALTHY["truncated"](), continues=False).kinds() == ["state carried across unrelated batches"]
    assert audited(HEALTHY["whole sequences"](), continues=True).kinds() == ["state lost between batches"]


def test_data_that_do_not_tell_give_a_note():
    loop = HEALTHY["truncated"]()
    noise = [(torch.randn(B, T, I), torch.randn(B, T)) for _ in range(4)]
    found = audited(loop._replace(batches=noise))
    assert ([f.kind for f in found.findings], found.kinds()) == (["state carried"], [])


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_a_stream_of_tokens_tells_by_its_targets(order):
    batches = HEALTHY["truncated tokens"]().batches
    found = audited(HEALTHY["truncated tokens"]()._replace(batches=[batches[k] for k in order]))
    assert found.kinds() == ([] if order == sorted(order) else ["state carried across unrelated batches"])


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
@pytest.mark.parametrize("time_first", [False, True])
def test_targets_that_are_flat_tell_too(order, time_first):
    """pytorch/examples, word_language_model: ``target = source[i + 1 : i + 1 + seq_len].view(-1)``."""
    loop = HEALTHY["truncated tokens"]()
    shape = loop.batches[0][1].shape
    turn = (lambda t: t.T) if time_first else (lambda t: t)
    flat = [(xs, turn(ys).reshape(-1)) for xs, ys in loop.batches]
    step = lambda batch: loop.step((batch[0], turn(batch[1].view(turn(torch.empty(shape)).shape))))
    found = audited(loop._replace(step=step, batches=[flat[k] for k in order]))
    assert found.kinds() == ([] if order == sorted(order) else ["state carried across unrelated batches"])


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_that_shuffles_says_so(shuffle):
    """xiph/rnnoise draws its sequences at random; features that are noise would not tell."""
    loop, rows = FAULTY["state carried across unrelated batches"](), 4 * B
    data = torch.utils.data.TensorDataset(torch.randn(rows, T, I), torch.randn(rows, T))
    found = tt.audit(loop.step, torch.utils.data.DataLoader(data, batch_size=B, shuffle=shuffle))
    assert found.kinds() == (["state carried across unrelated batches"] if shuffle else [])


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_a_series_before_a_convolution_tells(order):
    """The layer has two steps fewer than the batch."""
    model, optimizer = parts()
    state = None

    def step(batch):
        nonlocal state
        xs, ys = batch
        optimizer.zero_grad()
        out, state = model(xs[:, 2:] + xs[:, :-2], state)
        state = state.detach()
        (out - ys[:, 2:]).square().mean().backward()
        optimizer.step()

    batches = stream()
    found = tt.audit(step, [batches[k] for k in order])
    assert found.kinds() == ([] if order == sorted(order) else ["state carried across unrelated batches"])


# Nothing is left changed.


def everything(model, optimizer, generator):
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    state = [{k: torch.as_tensor(v).clone() for k, v in held.items()} for held in optimizer.state.values()]
    drawn = (
        torch.get_rng_state(),
        generator.get_state(),
        torch.tensor(random.getstate()[1]),
        torch.as_tensor(np.random.get_state()[1].astype(int)),
    )
    return [*model.state_dict().values(), *grads, *(v for held in state for v in held.values()), *drawn]


def copies(things):
    return [None if t is None else t.clone() for t in things]


def same(a, b):
    return len(a) == len(b) and all((x is None) == (y is None) and (x is None or torch.equal(x, y)) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("trained", [False, True])
def test_nothing_is_left_changed(trained):
    model, optimizer = parts(nn.Sequential(nn.BatchNorm1d(T), nn.Dropout(0.1), nn.LSTM(I, H, batch_first=True)))
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    generator, model.count, losses, held = torch.Generator().manual_seed(3), 0, [], {"state": torch.zeros(1)}
    total = 0.0

    def step(batch):
        nonlocal total
        optimizer.zero_grad()
        hs, (h, _) = model(batch[0] + 0.01 * torch.randn(batch[0].shape, generator=generator) * random.random() * np.random.rand())
        loss = hs.square().mean()
        loss.backward()
        optimizer.step()
        schedule.step()
        model.count += 1
        model.hidden = h.detach()
        total += loss.item()
        losses.append(loss.item())
        held["state"].add_(1)
        held["other"] = h

    if trained:
        step(shuffled()[0])
    before = copies(everything(model, optimizer, generator))
    facts = lambda: (
        model.count,
        list(losses),
        total,
        held["state"].item(),
        set(held),
        schedule.last_epoch,
        optimizer.param_groups[0]["lr"],
        set(vars(model)),
    )
    kept = facts()
    found = audit(step, shuffled())  # not tt.audit, whose first use may import packages that draw from random
    assert found.replayed
    assert facts() == kept
    assert same(everything(model, optimizer, generator), before)
    step(shuffled()[0])
    assert not same(everything(model, optimizer, generator), before)  # or the comparison could not fail


def test_torch_is_left_as_it_was_also_after_an_error():
    before = (
        nn.Module.__call__,
        torch.autograd.backward,
        torch.optim.Optimizer.zero_grad,
        torch.nn.utils.clip_grad_norm_,
        nn.Module.zero_grad,
    )

    def step(batch):
        raise ZeroDivisionError("the caller's own")

    with pytest.raises(ZeroDivisionError, match="own"):
        tt.audit(step, [1])
    with pytest.raises(RuntimeError, match="size"):
        tt.audit(lambda batch: nn.GRU(3, 5)(torch.zeros(2, 2, 4)), [1])
    audited(HEALTHY["packed"]())
    after = (
        nn.Module.__call__,
        torch.autograd.backward,
        torch.optim.Optimizer.zero_grad,
        torch.nn.utils.clip_grad_norm_,
        nn.Module.zero_grad,
    )
    assert after == before


def test_the_audited_steps_compute_what_they_compute_alone(capsys):
    def losses(run):
        model, optimizer = parts(Net(nn.LSTM))

        def step(batch):
            optimizer.zero_grad()
            loss = (model(batch[0])[0] - batch[1]).square().mean()
            loss.backward()
            optimizer.step()
            print(loss.item())  # what is printed stays

        run(step)
        return capsys.readouterr().out.split()

    alone = losses(lambda step: [step(batch) for batch in shuffled()])
    assert losses(lambda step: tt.audit(step, shuffled()))[:4] == alone  # to the last bit: the probes' zeros change no number


# What cannot be seen is said.


def test_a_step_that_cannot_be_repeated():
    layer, source = nn.GRU(I, H, batch_first=True), iter(range(100))

    def step(batch):
        (layer(batch[0])[0].sum() * (1 + next(source))).backward()

    found = tt.audit(step, shuffled())
    assert (found.replayed, [f.kind for f in found.findings]) == (False, ["not repeatable"])
    assert found.layers[0].reach == (T, T)


def test_without_a_recurrent_layer_or_a_backward_pass():
    head = nn.Linear(I, 1)
    assert [f.kind for f in tt.audit(lambda batch: head(batch[0]), shuffled()).findings] == ["no recurrent layer", "no backward pass"]


def test_the_report_prints_and_becomes_json():
    found = audited(FAULTY["padding trains"]())
    text = str(found).splitlines()
    assert text[0] == "3 training steps watched: 1 alarm(s)"
    assert text[-2].split() == "layer calls × steps × batch starts from gradient goes back of state goes further padding".split()
    assert text[-1].split() == ["rnn", "(GRU)", "1", "×", "7", "×", "4", "zeros", "7", "steps", "7", "–", "21", "%"]
    read = json.loads(found.to_json())
    assert read["findings"][0]["kind"] == "padding trains"
    assert read["layers"][0]["reach"] == [7, 7]


@pytest.mark.parametrize(
    ("batches", "said", "message"),
    [
        ([], {}, "batches is empty"),
        (None, {"steps": 0}, "steps"),
        (None, {"lengths": lambda batch: [1, 2]}, r"lengths gives \[1, 2\] for a batch of B = 4 sequences of T = 12 steps"),
        (None, {"lengths": lambda batch: [13] * 4}, "expected B numbers of 0..12"),
        (
            None,
            {"starts": lambda batch: torch.zeros(5, 5)},
            r"starts gives a tensor of shape \(5, 5\); expected \(12, 4\), \(4, 12\) or \(4,\)",
        ),
    ],
)
def test_bad_input(batches, said, message):
    loop = HEALTHY["whole sequences"]()
    with pytest.raises(tt.InputError, match=message):
        tt.audit(loop.step, loop.batches if batches is None else batches, **said)
