"""How it stands with the gradient, in one word.

In this order, with p the profile, ρ its decay a step, L the loss and K lags:

    unknown:    the lags do not add up to the gradient, in float64 either; or fewer than three lags         (1)
    exploding:  p somewhere exceeds 10 · p_0, and ρ > 1; or dL/dθ is beyond float64                         (2)
    diverged:   L > twice the loss of guessing every output alike                                           (3)
    saturated:  a layer whose units hardly ever pass a gradient; or which lets next to nothing in           (4)
    vanishing:  the horizon lies within half of the lags; in a stream that goes on, (6) too                 (5)
    (6): it lies within ten steps, and lags of more than ten make less than 1 % of the weights' gradient
    healthy:    none of these

An untrained network loses a little more than guessing does, a linear one half as much again: (3) leaves them that.

(6): a whole sequence asks for memory up to its own length. A stream has no length, and how many of its steps were measured says nothing
of the memory that it asks for. Lags of 5 to 10 steps are those that a network without gates fails to learn (Gers, Schmidhuber & Cummins,
*Learning to forget*, 2000); a gradient that reaches farther is called healthy there, and its horizon is told.
"""

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from ...cells import Gate, Relu
from ..measure import Gates, Measurement
from ._shape import FADED, Shape
from ._words import State

GROWTH = 10.0  # (2)
WORSE = 2.0  # (3)
SHORT = 10  # (6)
STUCK = 0.1  # (4): what a unit takes in over all lags together


@final
@dataclass(frozen=True)
class Saturation:
    """What is saturated, and how much.

    Attributes:
        kind: "dead" (of relu: off), "flat" (where the slope is small), "stuck" (the memory gate lets nothing in).
        layer: counted from 0.
        share: of steps and units, or of units where they are stuck.
    """

    kind: Literal["dead", "flat", "stuck"]
    layer: int
    share: float


def state_of(found: Measurement, shape: Shape, saturation: Saturation | None, *, overflows: bool) -> State:
    """(1) to (5)."""
    if not found.lags.closes:
        return "unknown"
    if overflows or grows(shape):
        return "exploding"
    if len(shape.profile) < 3:
        return "unknown"
    if found.guess is not None and found.loss > WORSE * found.guess > 0:
        return "diverged"
    if saturation is not None:
        return "saturated"
    if fades(shape) and not (found.carried and reaches(found, shape)):
        return "vanishing"
    return "healthy"


def grows(shape: Shape) -> bool:
    """(2)."""
    return shape.decay > 1 and float(shape.profile.max()) > GROWTH * float(shape.profile[0])


def fades(shape: Shape) -> bool:
    """(5); or nothing comes back at all."""
    return not shape.profile.any() or (shape.horizon is not None and shape.horizon <= len(shape.profile) / 2)


def reaches(found: Measurement, shape: Shape) -> bool:
    """(6) does not hold, as far as it was measured."""
    far = shape.horizon is None or shape.horizon > SHORT
    return far or (found.bias is not None and len(found.bias.bias) > SHORT and float(found.bias.bias[SHORT]) >= FADED)


def saturation_of(found: Measurement, shape: Shape) -> Saturation | None:
    """(4): the layer where it is worst; None where no layer is saturated, or gates were not measured."""
    if found.gates is None:
        return None
    stuck, flat = _stuck(found, len(shape.profile)), _flat(found, found.gates)
    if stuck is not None and float(stuck.max()) >= 0.9:
        return Saturation("stuck", int(stuck.argmax()), float(stuck.max()))
    if flat is None:
        return None
    gate, share = flat
    worst, rectified = float(share.max()), isinstance(gate.function, Relu)
    in_the_way = found.cell.memory_gate is None and not rectified  # with a memory gate the gradient passes the function by
    if worst > 0.9 or (worst > 0.5 and fades(shape) and in_the_way):
        return Saturation("dead" if rectified else "flat", int(share.argmax()), worst)
    return None


def _flat(found: Measurement, gates: Gates) -> tuple[Gate, Tensor] | None:
    """(L,) share of steps and units at which what a unit would take on has next to no slope. Gates that open and shut may be shut."""
    for g, gate in enumerate(found.cell.named_gates):
        if gate.function is not None and not gate.opens:
            return gate, gates.saturation[:, g].mean(1)
    return None


def _stuck(found: Measurement, K: int) -> Tensor | None:
    """(L,) share of units that take in next to nothing over K steps; of a cell with one gate for keeping and taking in."""
    gate, gates = found.cell.memory_gate, found.gates
    if gates is None or gate is None or found.cell.input_gate is not None or gates.openness[:, gate].isnan().any():
        return None
    return ((1 - gates.openness[:, gate]) * K < STUCK).to(torch.float64).mean(1)
