"""The optimiser, its schedule, and clipping."""

from dataclasses import dataclass
from typing import Annotated, Literal, final

from ... import _numbers
from ..._errors import InputError
from ..flag import Flag

OptimiserName = Literal["sgd", "adam", "adamw", "nadam", "rmsprop", "adagrad"]


@final
@dataclass(frozen=True)
class OptimiserOptions:
    """The optimiser, its schedule, and clipping."""

    optimizer: OptimiserName = "adam"
    """The rule that turns gradients into steps."""
    lr: Annotated[float | None, Flag("X", "adam, adamw, nadam and rmsprop 0.002; adagrad 0.01; sgd 1")] = None
    """Learning rate."""
    momentum: Annotated[float, Flag(rare=True)] = 0.0
    """Momentum of sgd and rmsprop."""
    weight_decay: Annotated[float, Flag(rare=True)] = 0.0
    """Weight decay (adamw: decoupled; the others: added to the gradient)."""
    schedule: Literal["constant", "linear", "cosine", "exponential"] = "constant"
    """How the learning rate falls: not, in a line or a half cosine to a hundredth at the end, or by a factor every epoch."""
    warmup: Annotated[int, Flag(rare=True)] = 0
    """Steps over which the learning rate first rises from 0."""
    decay: Annotated[float, Flag(rare=True)] = 0.97
    """The exponential schedule's factor."""
    decay_after: Annotated[int, Flag(rare=True)] = 10
    """The exponential schedule starts after this many epochs."""
    clip: float = 1.0
    """The gradient's global norm is scaled down to this; 0: never."""
    clip_value: Annotated[float, Flag(rare=True)] = 0.0
    """Each element of the gradient is clamped to plus or minus this, before the norm is; 0: never."""
    clip_step: Annotated[float, Flag(rare=True)] = 0.0
    """At each time step the gradient that travels back is scaled down to this norm; 0: never."""
    omega: Annotated[float, Flag(rare=True)] = 0.0
    """The weight of Pascanu's regulariser, which keeps a simple network's gradient from vanishing; 0: none."""

    def check(self) -> None:
        """Refuse numbers that mean nothing."""
        if self.lr is not None:
            _numbers.above_zero("`lr`", self.lr)
        if self.momentum and self.optimizer not in ("sgd", "rmsprop"):
            raise InputError(
                f"`momentum` is given with `optimizer='{self.optimizer}'`; expected sgd or rmsprop, the only ones that take it."
            )
        _numbers.fraction("`momentum`", self.momentum)
        for name in ("weight_decay", "warmup", "decay_after", "clip", "clip_value", "clip_step", "omega"):
            _numbers.at_least(f"`{name}`", getattr(self, name), 0)
        if not 0 < self.decay <= 1:
            raise InputError(f"`decay` is {self.decay!r}; expected a factor in (0, 1].")

    @property
    def rate(self) -> float:
        """The learning rate, given or the optimiser's usual one."""
        usual = {"sgd": 1.0, "adam": 2e-3, "adamw": 2e-3, "nadam": 2e-3, "rmsprop": 2e-3, "adagrad": 1e-2}
        return usual[self.optimizer] if self.lr is None else self.lr
