"""The result of an audit: findings first, then a table of the layers."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, final

from ._finding import Finding


@final
@dataclass(frozen=True)
class Layer:
    """What one recurrent layer did in the audited training steps.

    Attributes:
        name: in the outermost module that was called.
        kind: its class.
        calls: in one training step (the last one).
        steps: in one call.
        batch: sequences.
        starts_from: "zeros", "carried" (the last state of an earlier training step), "given" (any other state), or several of these.
        reach: steps that the gradient goes back, the present one included; smallest and largest. None: there was no backward pass.
        available: steps that it could have gone back, largest.
        state_beyond: whether an input beyond the gradient's reach still changes the output. None: not tried, or there is none.
        padding: share of the layer's steps that are padding. None: unknown.
    """

    name: str
    kind: str
    calls: int
    steps: int
    batch: int
    starts_from: str
    reach: tuple[int, int] | None
    available: int | None
    state_beyond: bool | None
    padding: float | None


@final
@dataclass(frozen=True)
class Audit:
    """What ``audit`` found. ``str`` prints it, ``to_json`` writes it.

    Attributes:
        findings: errors first, then warnings, then notes.
        layers: one row for each recurrent layer.
        training_steps: that were watched.
        replayed: whether the steps could be repeated exactly, so that inputs could be changed to see what follows.
    """

    findings: tuple[Finding, ...]
    layers: tuple[Layer, ...]
    training_steps: int
    replayed: bool

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """The findings that are errors or warnings."""
        return tuple(f for f in self.findings if f.severity != "note")

    def kinds(self) -> list[str]:
        """What the alarms are called."""
        return [f.kind for f in self.alarms]

    def to_json(self) -> str:
        """Everything as JSON; a number that is not finite is a string."""
        return json.dumps(_finite(asdict(self)), allow_nan=False)

    def __str__(self) -> str:
        alarms = len(self.alarms)
        head = f"{self.training_steps} training steps watched: " + (f"{alarms} alarm(s)" if alarms else "no alarm")
        return "\n".join([head, *map(str, self.findings), "", *_table(self.layers)]).rstrip()


def _finite(value: Any) -> Any:
    """The same for JSON, which has no infinity."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _table(layers: tuple[Layer, ...]) -> list[str]:
    """The layers, a line each, under a line of headings."""
    if not layers:
        return []
    heads = ("layer", "calls × steps × batch", "starts from", "gradient goes back", "of", "state goes further", "padding")
    lines = [heads, *map(_cells, layers)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(heads))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _cells(one: Layer) -> tuple[str, ...]:
    reach = "–" if one.reach is None else "–".join(map(str, sorted(set(one.reach)))) + " steps"
    size = f"{one.calls} × {one.steps} × {one.batch}"
    further = {None: "–", True: "yes", False: "no"}[one.state_beyond]
    padding = "–" if one.padding is None else f"{100 * one.padding:.0f} %"
    return (f"{one.name} ({one.kind})", size, one.starts_from, reach, _plain(one.available), further, padding)


def _plain(value: Any) -> str:
    return "–" if value is None else str(value)
