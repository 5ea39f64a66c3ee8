"""How long a run trains, in what windows, and where."""

from dataclasses import dataclass
from typing import Annotated, Literal, final

from ... import _numbers
from ..._errors import InputError
from ..flag import Flag
from ._save_every import SaveEvery, typed


@final
@dataclass(frozen=True)
class LoopOptions:
    """How long, how wide, and where."""

    batch_size: int = 32
    """Streams side by side: the data is cut into this many."""
    bptt: int = 64
    """The window of truncated backpropagation through time, in steps; with --gradient, the steps between two updates of the weights."""
    gradient: Annotated[str | None, Flag("METHOD[:OPTION=VALUE,...]", "truncated to --bptt steps")] = None
    """How the gradient is found, such as full, truncated:k1=16,k2=64, sliding:lags=32; another name lists them all."""
    epochs: Annotated[int | None, Flag("N", "10, if neither --steps nor --minutes is")] = None
    """Stop after this many passes over the data."""
    steps: Annotated[int | None, Flag("N")] = None
    """Stop after this many steps."""
    minutes: Annotated[float | None, Flag("X")] = None
    """Stop after this much time."""
    eval_every: Annotated[int | None, Flag("N", "an epoch, or 2000 if that is less", rare=True)] = None
    """Steps between validations."""
    patience: Annotated[int | None, Flag("N", "the whole budget is spent")] = None
    """Stop after this many validations without a better one."""
    on_nonfinite: Annotated[Literal["stop", "skip", "rollback"], Flag(rare=True)] = "stop"
    """After a step whose loss or gradient is not finite: stop; skip it; or go back to the saved state, on with half the learning rate."""
    sample_every: Annotated[int, Flag(rare=True)] = 0
    """Every so many steps, let the model write a line; 0: never."""
    eval_tokens: Annotated[int, Flag(rare=True)] = 200_000
    """A validation reads at most this many symbols or steps; the one at the end ten times as many, and throughtime evaluate all."""
    save_every: Annotated[str | float, Flag("Nsteps|Xs|Xm|Xh", rare=True, read=typed)] = "1m"
    """Steps, seconds, minutes or hours between saves of the whole state, or steps and a time; it also is saved at every validation."""
    seed: Annotated[int, Flag(hidden=True)] = 0  # typed as one of FolderOptions, where there may be several
    """Of the weights, dropout and random initial states."""
    threads: Annotated[int | None, Flag("N", "torch's own choice")] = None
    """Threads of torch."""
    kernels: Annotated[Literal["fast", "plain"], Flag(rare=True)] = "fast"
    """The packed kernels wherever they can serve, or the plain loop everywhere."""
    device: str = "cpu"
    """Where to compute: cpu, cuda, cuda:1, mps."""
    watch_flow: Annotated[int, Flag(rare=True)] = 0
    """Every so many steps, measure how far back the gradient reaches; 0: never. At 200 it costs about 2 % of the time."""

    def check(self) -> None:
        """Refuse numbers that mean nothing."""
        _numbers.positive("`batch_size`", self.batch_size)
        _numbers.positive("`bptt`", self.bptt)
        budgets = {k: v for k, v in (("`epochs`", self.epochs), ("`steps`", self.steps), ("`minutes`", self.minutes)) if v is not None}
        if len(budgets) > 1:
            raise InputError(
                f"{' and '.join(budgets)} are given together; expected one of `epochs`, `steps`, `minutes`. Leave out the others."
            )
        for name, value in budgets.items():
            _numbers.above_zero(name, value)
        if self.eval_every is not None:
            _numbers.positive("`eval_every`", self.eval_every)
        if self.patience is not None:
            _numbers.positive("`patience`", self.patience)
        _numbers.at_least("`sample_every`", self.sample_every, 0)
        _numbers.at_least("`eval_tokens`", self.eval_tokens, 2)
        SaveEvery.of(self.save_every)
        _numbers.seed(self.seed)
        if self.threads is not None:
            _numbers.positive("`threads`", self.threads, most=1024)
        _numbers.at_least("`watch_flow`", self.watch_flow, 0)
