"""Training loops as strangers write them: with the faults of public reports, and without.

Each function makes a loop: a training step, a few batches, and what the caller says of them. Where a fault has a report, its address is
in the docstring; the code is written anew, as small as the fault allows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pack_padded_sequence

import throughtime as tt

T, B, I, H = 12, 4, 3, 8


class Loop(NamedTuple):
    step: Callable[[Any], Any]
    batches: list[Any]
    said: dict[str, Any]


class Net(nn.Module):
    """Encoder, one recurrent layer, head; batch first."""

    def __init__(self, layer: type[nn.RNNBase] = nn.GRU, **options: Any) -> None:
        super().__init__()
        self.encoder = nn.Linear(I, I)
        self.rnn: Any = layer(I, H, batch_first=True, **options)
        self.head = nn.Linear(H, 1)

    def forward(self, xs: Tensor, state: Any = None, **options: Any) -> tuple[Tensor, Any]:
        hs, state = self.rnn(self.encoder(xs).tanh(), state, **options)
        return self.head(hs).squeeze(-1), state


def smooth(rows: int, steps: int) -> Tensor:
    """(rows, steps, I) slow waves, whose phases and periods differ from row to row."""
    g = torch.Generator().manual_seed(rows + steps)
    phase, period = torch.rand(2, rows, 1, I, generator=g)
    t = torch.arange(steps).view(1, -1, 1)
    return torch.sin(2 * torch.pi * (phase + t / (30 + 20 * period)))


def stream(n: int = 4) -> list[tuple[Tensor, Tensor]]:
    """Consecutive windows of B long series; the target is the next first coordinate."""
    xs = smooth(B, n * T + 1)
    return [(xs[:, k * T : (k + 1) * T], xs[:, k * T + 1 : (k + 1) * T + 1, 0]) for k in range(n)]


def shuffled(n: int = 4) -> list[tuple[Tensor, Tensor]]:
    """Windows of unrelated series."""
    xs = smooth(n * B, T + 1)[torch.randperm(n * B, generator=torch.Generator().manual_seed(3))]
    return [(part[:, :T], part[:, 1:, 0]) for part in xs.split(B)]


def parts(model: nn.Module | None = None) -> tuple[Any, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Net() if model is None else model
    return model, torch.optim.Adam(model.parameters(), 1e-2)


def detached(state: Any) -> Any:
    return tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()


def ordinary(
    optimizer: torch.optim.Optimizer, loss: Callable[[Any], Tensor], *, clip: float | None = None, **backward: bool
) -> Callable[[Any], None]:
    """A training step in the right order. Loops with another order write it out."""

    def step(batch: Any) -> None:
        optimizer.zero_grad()
        loss(batch).backward(**backward)
        if clip is not None:
            clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip)
        optimizer.step()

    return step


def error(model: Any) -> Callable[[Any], Tensor]:
    """The squared error of a model that begins every batch from zeros."""
    return lambda batch: (model(batch[0])[0] - batch[1]).square().mean()


def carried(model: Any) -> Callable[[Any], Tensor]:
    """The same, from the state that the batch before left, with its graph."""
    state = None

    def loss(batch: Any) -> Tensor:
        nonlocal state
        out, state = model(batch[0], state)
        return (out - batch[1]).square().mean()

    return loss


# With a fault.


def clip_before_backward() -> Loop:
    """locuslab/TCN, poly_music/music_test.py: zero_grad, forward, clip, backward, step."""
    model, optimizer = parts()

    def step(batch: Any) -> None:
        xs, ys = batch
        optimizer.zero_grad()
        loss = (model(xs)[0] - ys).square().mean()
        clip_grad_norm_(model.parameters(), 0.2)
        loss.backward()
        optimizer.step()

    return Loop(step, shuffled(), {})


def clip_after_step() -> Loop:
    """jongwook/onsets-and-frames#24, VGraphRNN/VGRNN#4: backward, step, clip."""
    model, optimizer = parts()

    def step(batch: Any) -> None:
        xs, ys = batch
        optimizer.zero_grad()
        (model(xs)[0] - ys).square().mean().backward()
        optimizer.step()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 3.0)

    return Loop(step, shuffled(), {})


def rnnoise() -> Loop:
    """xiph/rnnoise, torch/rnnoise/train_rnnoise.py: ``states`` carried through a DataLoader with shuffle=True."""
    model, optimizer = parts()
    states = None

    def step(batch: Any) -> None:
        nonlocal states
        xs, ys = batch
        optimizer.zero_grad()
        out, states = model(xs, states)
        states = detached(states)
        (out - ys).square().mean().backward()
        optimizer.step()

    return Loop(step, shuffled(), {})


class Agent(nn.Module):
    """CleanRL's recurrent agent (ppo_atari_lstm.py) without convolutions: a call of the LSTM for each step."""

    def __init__(self, late: int = 0, *, resets: bool = True) -> None:
        super().__init__()
        self.encoder, self.lstm, self.head = nn.Linear(I, I), nn.LSTM(I, H), nn.Linear(H, 1)
        self.late, self.resets = late, resets

    def forward(self, xs: Tensor, state: Any, done: Tensor) -> Tensor:
        done = torch.cat((torch.zeros_like(done[: self.late]), done[: len(done) - self.late])) if self.resets else torch.zeros_like(done)
        outputs = []
        for x, d in zip(self.encoder(xs), done, strict=True):
            keep = (1.0 - d).view(1, -1, 1)
            h, state = self.lstm(x.unsqueeze(0), (keep * state[0], keep * state[1]))
            outputs.append(h)
        return self.head(torch.cat(outputs)).squeeze(-1)


def _episodes(agent: Agent) -> Loop:
    """Updates on roll-outs whose episodes end in the middle."""
    agent, optimizer = parts(agent)
    zeros = torch.zeros(1, B, H)
    loss = lambda batch: (agent(batch["obs"], (zeros, zeros), batch["done"]) - batch["returns"]).square().mean()
    g = torch.Generator().manual_seed(1)
    done = torch.zeros(T, B)
    done[4, 0] = done[7, 1] = done[3, 2] = done[9, 2] = 1.0
    batches = [{"obs": torch.randn(T, B, I, generator=g), "done": done, "returns": torch.randn(T, B, generator=g)} for _ in range(3)]
    return Loop(ordinary(optimizer, loss, clip=0.5), batches, {"starts": lambda batch: batch["done"]})


def no_reset() -> Loop:
    """ikostrikov/pytorch-a2c-ppo-acktr-gail#206 (a recurrent policy of one's own), openai/baselines#340: done is never applied."""
    return _episodes(Agent(resets=False))


def late_reset() -> Loop:
    """PufferAI/PufferLib#622: training resets on terminal[t − 1], the roll-out on terminal[t]."""
    return _episodes(Agent(late=1))


def early_reset() -> Loop:
    """LARG/jax-aht#115: the done after the step is used as if it came before it."""
    loop = _episodes(Agent())
    return loop._replace(said={"starts": lambda batch: torch.cat((torch.zeros(1, B), batch["done"][:-1]))})


def retain_graph() -> Loop:
    """pytorch/pytorch#2769, sgadgil6/cnslab_fmri#4: the state keeps its graph, and retain_graph=True silences torch."""
    model, _ = parts()
    state = None

    def step(batch: Any) -> None:
        nonlocal state
        xs, ys = batch
        model.zero_grad()
        out, state = model(xs, state)
        (out - ys).square().mean().backward(retain_graph=True)
        for p in model.parameters():
            p.data -= 0.01 * p.grad  # which torch does not notice

    return Loop(step, stream(), {})


def second_backward() -> Loop:
    """MorvanZhou/PyTorch-Tutorial#57 and a hundred others: the same without retain_graph; torch stops."""
    model, optimizer = parts()
    return Loop(ordinary(optimizer, carried(model)), stream(), {})


def changed_in_place() -> Loop:
    """Eurus-Holmes/MNMT#7: retain_graph=True with an optimiser, whose step changes the weights that the old graph needs."""
    model, optimizer = parts()
    return Loop(ordinary(optimizer, carried(model), retain_graph=True), stream(), {})


def _ragged(last: int = 20) -> list[dict[str, Tensor]]:
    g = torch.Generator().manual_seed(2)
    lengths = torch.tensor([last, 5, 6, 4])
    mask = (torch.arange(last).unsqueeze(0) < lengths.unsqueeze(1)).float()
    return [
        {
            "xs": torch.randn(B, last, I, generator=g) * mask.unsqueeze(2),
            "mask": mask,
            "lengths": lengths,
            "ys": torch.randn(B, last, generator=g),
        }
        for _ in range(3)
    ]


def _padded(loss: Callable[[Tensor, Any], Tensor], **options: Any) -> Loop:
    model, optimizer = parts(Net(**options))
    return Loop(ordinary(optimizer, lambda batch: loss(model(batch["xs"])[0], batch)), _ragged(7), {})


def padding_in_the_loss() -> Loop:
    """ray-project/ray#15523: the loss is a mean over padding too."""
    return _padded(lambda out, batch: (out - batch["ys"]).square().mean())


def padding_in_the_state() -> Loop:
    """ray-project/ray#21392: the last column is read, which for a short sequence is the state after its padding."""
    return _padded(lambda out, batch: (out[:, -1] - batch["ys"][:, 0]).square().mean())


def padding_read_backwards() -> Loop:
    """A bidirectional layer without packing: its reverse direction begins in the padding, whatever the loss masks."""
    model, optimizer = parts()
    model.rnn, model.head = nn.GRU(I, H, batch_first=True, bidirectional=True), nn.Linear(2 * H, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss = lambda batch: ((model(batch["xs"])[0] - batch["ys"]).square() * batch["mask"]).mean()
    return Loop(ordinary(optimizer, loss), _ragged(7), {})


def padded_to_the_longest_episode() -> Loop:
    """MarcoMeter/recurrent-ppo-truncated-bptt#19: sequences of 8 steps padded to the longest episode; masked, but computed."""
    return masked()._replace(batches=_ragged(60))


def zeros_at_every_batch() -> Loop:
    """A stream is read in windows, and each begins from zeros."""
    model, optimizer = parts()
    return Loop(ordinary(optimizer, error(model)), stream(), {})


def detached_at_every_step() -> Loop:
    """The state is detached inside of the loop over time."""
    torch.manual_seed(0)
    cell, head = nn.GRUCell(I, H), nn.Linear(H, 1)
    optimizer = torch.optim.SGD([*cell.parameters(), *head.parameters()], 0.1)

    def loss(batch: Any) -> Tensor:
        xs, ys = batch
        h, total = torch.zeros(B, H), torch.zeros(())
        for t in range(T):
            h = cell(xs[:, t], h.detach())
            total = total + (head(h).squeeze(1) - ys[:, t]).square().mean()
        return total

    return Loop(ordinary(optimizer, loss), shuffled(), {})


FAULTY: dict[str, Callable[[], Loop]] = {
    "clip before backward": clip_before_backward,
    "clip after the step": clip_after_step,
    "state carried across unrelated batches": rnnoise,
    "state crosses a reset": no_reset,
    "reset one step late": late_reset,
    "reset one step early": early_reset,
    "state not detached": retain_graph,
    "state not detached (torch stops)": second_backward,
    "state not detached (in place)": changed_in_place,
    "padding trains": padding_in_the_loss,
    "padding trains (state)": padding_in_the_state,
    "padding trains (reverse)": padding_read_backwards,
    "arithmetic on padding": padded_to_the_longest_episode,
    "state lost between batches": zeros_at_every_batch,
    "detached at every step": detached_at_every_step,
}


# Without.


def truncated() -> Loop:
    """A stream, its state carried detached."""
    loop = rnnoise()
    return loop._replace(batches=stream(), said={"window": T})


def truncated_tokens() -> Loop:
    """A character model as in PyTorch's word_language_model: embedding, two LSTM layers, tied to a stream of tokens."""
    torch.manual_seed(0)
    embed, rnn, head = nn.Embedding(20, I), nn.LSTM(I, H, 2, dropout=0.2), nn.Linear(H, 20)
    model = nn.ModuleList([embed, rnn, head])
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    state: Any = (torch.zeros(2, B, H), torch.zeros(2, B, H))

    def step(batch: Any) -> None:
        nonlocal state
        xs, ys = batch
        model.zero_grad()
        state = detached(state)
        hs, state = rnn(embed(xs), state)
        nn.functional.cross_entropy(head(hs).flatten(0, 1), ys.flatten()).backward()
        clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()

    ids = torch.randint(20, (4 * T + 1, B), generator=torch.Generator().manual_seed(5))
    return Loop(step, [(ids[k * T : (k + 1) * T], ids[k * T + 1 : (k + 1) * T + 1]) for k in range(4)], {})


def whole_sequences() -> Loop:
    """Unrelated sequences, each from zeros."""
    loop = zeros_at_every_batch()
    return loop._replace(batches=shuffled())


def masked() -> Loop:
    """Padded sequences with a masked loss."""
    return _padded(lambda out, batch: ((out - batch["ys"]).square() * batch["mask"]).sum() / batch["mask"].sum())


def packed() -> Loop:
    """Packed sequences, the last state of each read, in any order."""
    model, optimizer = parts(Net(nn.LSTM))

    def loss(batch: Any) -> Tensor:
        xs = pack_padded_sequence(batch["xs"], batch["lengths"], batch_first=True, enforce_sorted=False)
        _, (h, _) = model.rnn(xs)
        return (model.head(h[-1]).squeeze(1) - batch["ys"][:, 0]).square().mean()

    return Loop(ordinary(optimizer, loss), _ragged(), {})


def lengths_told() -> Loop:
    """This package's layer, which is told the lengths."""
    model, optimizer = parts(Net(tt.GRU))

    def loss(batch: Any) -> Tensor:
        _, h = model.rnn(batch["xs"], lengths=batch["lengths"])
        return (model.head(h[-1]).squeeze(1) - batch["ys"][:, 0]).square().mean()

    return Loop(ordinary(optimizer, loss), _ragged(), {})


def right_reset() -> Loop:
    """CleanRL's agent as it is."""
    return _episodes(Agent())


def one_call_with_reset() -> Loop:
    """The same in one call, with the mask."""
    torch.manual_seed(0)
    rnn, head = tt.LSTM(I, H), nn.Linear(H, 1)
    optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()])

    def loss(batch: Any) -> Tensor:
        hs, _ = rnn(batch["obs"], reset=batch["done"].bool())
        return (head(hs).squeeze(-1) - batch["returns"]).square().mean()

    return _episodes(Agent())._replace(step=ordinary(optimizer, loss))


def two_optimizers() -> Loop:
    """Actor and critic, one backward pass, each clipped before its own step; gradients are accumulated over two halves of the batch."""
    torch.manual_seed(0)
    actor, critic = Net(), Net(nn.LSTM)
    optimizers = [torch.optim.SGD(m.parameters(), 0.1) for m in (actor, critic)]

    def step(batch: Any) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        for xs, ys in zip(*(part.chunk(2) for part in batch), strict=True):
            ((actor(xs)[0] - ys).square().mean() + (critic(xs)[0] - ys).abs().mean()).backward()
        for m, optimizer in zip((actor, critic), optimizers, strict=True):
            clip_grad_norm_(m.parameters(), 0.5)
            optimizer.step()

    return Loop(step, shuffled(), {})


def chunks_inside_of_a_step() -> Loop:
    """Truncated BPTT within a long batch: a backward pass and a step for each chunk, from zeros at each unrelated batch."""
    model, optimizer = parts(Net(nn.LSTM))

    def step(batch: Any) -> None:
        state = None
        for xs, ys in zip(*(part.split(4, 1) for part in batch), strict=True):
            optimizer.zero_grad()
            out, state = model(xs, state)
            (out - ys).square().mean().backward()
            optimizer.step()
            state = detached(state)

    return Loop(step, shuffled(), {"window": 4})


def step_by_step() -> Loop:
    """A loop over a cell, detached between batches of a stream."""
    torch.manual_seed(0)
    cell, head = nn.LSTMCell(I, H), nn.Linear(H, 1)
    optimizer = torch.optim.SGD([*cell.parameters(), *head.parameters()], 0.1)
    held: dict[str, Any] = {"state": None}

    def step(batch: Any) -> None:
        xs, ys = batch
        state, loss = held["state"], torch.zeros(())
        for t in range(T):
            state = cell(xs[:, t], state)
            loss = loss + (head(state[0]).squeeze(1) - ys[:, t]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        held["state"] = detached(state)

    return Loop(step, stream(), {"window": T})


HEALTHY: dict[str, Callable[[], Loop]] = {
    "truncated": truncated,
    "truncated tokens": truncated_tokens,
    "whole sequences": whole_sequences,
    "masked": masked,
    "packed": packed,
    "lengths told": lengths_told,
    "right reset": right_reset,
    "one call with reset": one_call_with_reset,
    "two optimizers": two_optimizers,
    "chunks inside of a step": chunks_inside_of_a_step,
    "step by step": step_by_step,
}
