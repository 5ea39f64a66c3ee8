"""A network that does not learn: find the reason, change the network as advised, and train it again.

The task has two symbols, far from the end and from each other, and asks at the end in which order they came. An LSTM with the usual
initial weights stays at chance, ln 4 = 1.386 nats. Its gradient shows the reason, and what to change, before any training.

    python examples/why_does_it_not_learn.py                half a minute on one core
    python examples/why_does_it_not_learn.py --length 100 --steps 600
"""

import argparse
from collections.abc import Sequence

import torch

import throughtime as tt
from throughtime.cells import LSTM
from throughtime.data import temporal_order
from throughtime.gradients import FullBPTT
from throughtime.models import Head, OneHot, SequenceModel
from throughtime.nn import AbstractInitialiser, Chrono, Recurrence, TorchUniform

SYMBOLS, ORDERS, HIDDEN, STREAMS = 6, 4, 32, 32


def network(*initialisers: AbstractInitialiser) -> SequenceModel:
    torch.manual_seed(0)
    return SequenceModel(OneHot(SYMBOLS), Recurrence(LSTM(), SYMBOLS, HIDDEN, initialisers=initialisers), Head(HIDDEN, ORDERS))


def train(model: SequenceModel, length: int, steps: int, clip: float) -> list[float]:
    """Train, and return the loss of every step."""
    generator, optimizer, losses = torch.Generator().manual_seed(1), torch.optim.Adam(model.parameters(), lr=0.01), []
    for _ in range(steps):
        optimizer.zero_grad()
        losses.append(float(FullBPTT().accumulate(model, temporal_order(length, STREAMS, generator)).loss))
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
    return losses


@torch.no_grad()
def accuracy(model: SequenceModel, length: int) -> float:
    batch = temporal_order(length, 1000, torch.Generator().manual_seed(2))
    hs, _ = model.recurrence(model.embed(batch))
    return float((model.head(hs[-1]).argmax(-1) == batch.targets[-1]).float().mean())


def diagnose(model: SequenceModel, length: int) -> tt.flow.Flow:
    flow = tt.gradient_flow(model, temporal_order(length, STREAMS, torch.Generator().manual_seed(3)))
    assert flow.gates is not None and flow.bias is not None, "both are measured unless told otherwise"  # noqa: PT018
    far = float(flow.adjoint.profile[length // 2] / flow.adjoint.profile[0])
    print(f"  {flow.verdict.sentence}")
    print(f"  Of the gradient of the last loss, {far:.1e} arrives {length // 2} steps back, about where the second symbol stands.")
    for advice in flow.verdict.advice:
        print(f"  - {advice.told('python')}")
    return flow


def story(length: int, steps: int) -> Sequence[tuple[tt.flow.Flow, float]]:
    """The measurement before training and the accuracy after it, for the usual initial weights and for those advised."""
    print(f"An LSTM of {HIDDEN} units, started as torch does; sequences of {length} steps.")
    model = network(TorchUniform())
    before = diagnose(model, length)
    losses = train(model, length, steps, clip=1.0)
    failed = accuracy(model, length)
    print(f"  After {steps} steps: loss {sum(losses[-20:]) / 20:.3f}, {failed:.0%} right. Chance is 25 %.\n")

    advice = next(a for a in before.verdict.advice if a.about == "gates")
    print(f"Mended as advised: {Chrono(length)}, since nine in ten units forget half within {advice.because['half_life_90']:.2g} steps.")
    model = network(TorchUniform(), Chrono(length))
    after = diagnose(model, length)
    losses = train(model, length, steps, clip=1.0)
    learned = accuracy(model, length)
    print(f"  After {steps} steps: loss {sum(losses[-20:]) / 20:.3f}, {learned:.0%} right.")
    return (before, failed), (after, learned)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=50, help="steps of a sequence, at least 10")
    parser.add_argument("--steps", type=int, default=400, help="of training")
    args = parser.parse_args()
    story(args.length, args.steps)
