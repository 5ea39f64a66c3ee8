"""What every task's run chooses beside its data."""

from typing import Any, ClassVar

from ..._errors import InputError
from ._loop import LoopOptions
from ._optimiser import OptimiserOptions


class AnyRun:
    """What every task's run chooses beside its data; a run's fields are the sections of ``config.json``."""

    task: ClassVar[str]

    network: Any  # StackOptions, or what the task adds to them
    optimiser: OptimiserOptions
    loop: LoopOptions

    @property
    def source(self) -> Any:
        """The section about the data: the one that has the task's name."""
        return getattr(self, self.task)

    def check(self) -> None:
        """Refuse what means nothing, before anything is read, built or made."""
        self.source.check()
        self.network.check()
        self.optimiser.check()
        if self.optimiser.omega and self.network.cell != "rnn":
            raise InputError(
                f"`omega` is given with `cell='{self.network.cell}'`; expected `cell='rnn'`, the simple network that it is defined for. "
                "What keeps a gated cell's gradient alive is its memory gate: `forget_bias` or `chrono`."
            )
        self.loop.check()
