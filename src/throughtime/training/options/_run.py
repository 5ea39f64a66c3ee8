"""What every task's run chooses beside its data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ..._errors import InputError
from ._loop import LoopOptions
from ._optimiser import OptimiserOptions


class AnyRun:
    """What every task's run chooses beside its data; a run's fields are the sections of ``config.json``."""

    task: ClassVar[str]
    writes: ClassVar[bool] = False  # a line now and then
    both_directions: ClassVar[bool] = False  # whether the future may be read

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
        if self.network.bidirectional and not self.both_directions:
            raise InputError(
                f"`bidirectional` is given with train {self.task}; expected it with train labels alone: whoever predicts what comes next "
                "must not have read it, and the second direction has. Leave it out."
            )
        self.loop.check()
        if self.loop.sample_every and not self.writes:
            raise InputError(
                f"--sample-every is given with train {self.task}; expected it with a model that writes, of a text. Leave it out."
            )


def one_file(files: Sequence[Path], what: str, example: str) -> None:
    """Refuse none and several."""
    if len(files) != 1:
        raise InputError(f"{len(files) or 'no'} {what}s are named; expected one. Give its path: {example}")
