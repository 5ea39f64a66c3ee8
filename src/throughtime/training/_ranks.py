"""The processes that share a training ("ranks", as torchrun calls them): each takes its part of the streams, and all take the same step.

A gradient is a sum over the streams of a batch. Rank r adds up those of its own streams, each divided by the number of losses that count
in the whole batch, and one sum over the ranks makes the gradient of the whole:

    N = Σ_r n_r                                             (1)
    dL/dθ = Σ_r Σ_{b of r} ∂(Σ_t m_tb w_tb ℓ_tb)/∂θ / N     (2)

Norm, clips and optimiser come after (2), so that they are those of the whole, and every rank finds the same weights by itself.

Why not torch's DistributedDataParallel: it sums gradients while autograd's backward runs over the model's parameters, once a step. A
gradient method here calls backward for each segment, for several windows, or not at all (RTRL and its kin). All gradients laid end to
end, and one sum after ``accumulate``, serve every method, and cost one message a step.
"""

import abc
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any, NoReturn, TypeVar, cast, final

import numpy as np
import torch
from torch import Tensor

from .. import _processes
from .._check import InputError
from ..data import AbstractStream, Batch
from ..gradients import AbstractGradient

Question = Callable[[], bool]
Made = TypeVar("Made")

_PATIENCE = timedelta(days=30)  # the others wait while one reads the data or measures; whoever has died is noticed at once


class LostRankError(RuntimeError):
    """Another process has ended, so that this one cannot go on."""


class AbstractLink(abc.ABC):
    """What ranks need of whatever connects them. All ranks call the same methods in the same order.

    Attributes:
        rank: this process's number.
        size: how many there are.
    """

    rank: int
    size: int

    @abc.abstractmethod
    def add(self, numbers: Tensor) -> None:
        """Make ``numbers`` (n,) the sum over all ranks, in place; the bits are the same on every rank."""

    @abc.abstractmethod
    def gather(self, content: bytes) -> list[bytes]:
        """On rank 0 what each rank has given; nothing on the others."""

    @abc.abstractmethod
    def spread(self, content: bytes) -> bytes:
        """What rank 0 has given."""


@final
class Ranks:
    """The processes that share a training, seen from one of them.

    Args:
        link: to the others; None: this process is alone, and nothing here costs anything.
    """

    def __init__(self, link: AbstractLink | None = None) -> None:
        self._link = link
        self.rank, self.size = (0, 1) if link is None else (link.rank, link.size)
        self._questions: tuple[Question, ...] = ()
        self._answers: list[bool] = []
        self._counted = 0

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def each(self, batch_size: int) -> int:
        """How many of the streams each rank takes.

        Raises:
            InputError: they cannot be dealt evenly.
        """
        if batch_size % self.size:
            low = batch_size - batch_size % self.size
            wanted = f"{low} or {low + self.size}" if low else f"{self.size}"
            raise InputError(
                f"`batch_size` is {batch_size}, for {self.size} processes; expected a multiple, so that each takes as many streams. "
                f"Give {wanted}, or start another number of processes."
            )
        return batch_size // self.size

    def stream(self, stream: AbstractStream, batch_size: int) -> AbstractStream:
        """This rank's part of the streams."""
        self.each(batch_size)
        return stream if self._link is None else stream.dealt(self.rank, self.size)

    def method(self, method: AbstractGradient) -> AbstractGradient:
        """The method as this rank uses it: what it draws at random is drawn anew for every rank.

        Raises:
            InputError: the method needs all streams in one process.
        """
        if self._link is not None and not method.adds_over_streams:
            raise InputError(
                f"the gradient method is {method!r} and there are {self.size} processes; expected a method whose gradient is a sum over "
                "streams, which this one's is not. Choose another (or leave `omega` out), or start one process."
            )
        seeded = any(f.name == "seed" for f in fields(cast(Any, method)))
        return replace(cast(Any, method), seed=self.seed(method.seed)) if seeded and not self.first else method  # type: ignore[attr-defined]

    def device(self, found: torch.device) -> torch.device:
        """This rank's own GPU, where several ranks of a machine are to have one each.

        Raises:
            InputError: all of them would have the same one.
        """
        if found.type != "cuda" or _processes.local_ranks() == 1:
            return found
        if found.index is not None:
            raise InputError(
                f"`device` is {found}, for {_processes.local_ranks()} processes of this machine; expected `cuda`, of which each process "
                "takes its own."
            )
        if (there := torch.cuda.device_count()) < _processes.local_ranks():
            raise InputError(
                f"there are {_processes.local_ranks()} processes on this machine and {there} GPUs; expected a GPU for each. Start fewer "
                "processes."
            )
        return torch.device("cuda", _processes.local_rank())

    def seed(self, seed: int, step: int = 0) -> int:
        """A seed for this rank; on the first, the one that is given."""
        return seed if self.first else int(np.random.SeedSequence([seed, self.rank, step]).generate_state(1, np.uint64)[0] >> 1)

    def part(self, batch: Batch) -> Batch:
        """This rank's streams, with (1)."""
        if self._link is None:
            return batch
        self._counted = batch.counted()
        if batch.mask is None and batch.weights is None:
            self._counted *= self.size
        else:
            count = torch.tensor([self._counted], dtype=torch.float64)
            self._link.add(count)
            self._counted = int(count)
        return replace(batch, whole=self._counted)

    def counted(self, batch: Batch) -> int:
        """N of the batch that was learned from last."""
        return batch.counted() if self._link is None else self._counted

    def add(self, parameters: Sequence[Tensor], loss: Tensor) -> Tensor:
        """(2), and the loss likewise. The answers to the questions travel with them.

        A gradient that no rank has remains None.
        """
        if self._link is None:
            return loss
        trained = [p for p in parameters if p.requires_grad]
        there = [p.grad is not None for p in trained]
        said = loss.new_tensor([float(x) for x in (*there, *(question() for question in self._questions))])
        flat = torch.cat([*((torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained), loss.reshape(1), said])
        self._link.add(flat)
        *gradients, loss, said = flat.split([*(p.numel() for p in trained), 1, len(said)])
        counts = said.tolist()
        for p, gradient, found in zip(trained, gradients, counts, strict=False):
            if found:
                p.grad = gradient.view_as(p).to(p)
        self._answers = [count > 0 for count in counts[len(trained) :]]
        return loss[0]

    def ask(self, *questions: Question) -> list[Question]:
        """Have questions answered with every step: each is true once it is true on some rank.

        Returns:
            What to call for the answers of the last step; alone, the questions themselves.
        """
        if self._link is None:
            return list(questions)
        self._questions, self._answers = questions, [False] * len(questions)
        return [lambda i=i: self._answers[i] for i in range(len(questions))]

    def share(self, value: Any) -> Any:
        """What the first has, as far as JSON can tell it."""
        return value if self._link is None else json.loads(self._link.spread(json.dumps(value).encode()))

    def gather(self, content: Callable[[], bytes]) -> list[bytes]:
        """On the first of several: what each has, by rank."""
        return [] if self._link is None else self._link.gather(content())

    def any_word(self, word: str | None) -> str | None:
        """The word of the first rank that has one."""
        if self._link is None:
            return word
        words = [w.decode() for w in self._link.gather((word or "").encode())]
        return self.share(next((f"{w} (process {r})" if r else w for r, w in enumerate(words) if w), None))

    def all_or_none(self, make: Callable[[], Made]) -> Made:
        """What every rank makes for itself; where one of them cannot, all end with its error.

        Raises:
            InputError: of the first rank that has one.
        """
        if self._link is None:
            return make()
        try:
            made, wrong = make(), None
        except InputError as error:
            made, wrong = None, str(error)
        if (word := self.any_word(wrong)) is not None:
            raise InputError(word)
        return cast(Made, made)


ALONE = Ranks()


@final
class Distributed(AbstractLink):
    """torch.distributed: gloo for what is on the processor, nccl for what is on GPUs."""

    def __init__(self) -> None:
        import torch.distributed as dist

        self._dist, self.rank, self.size = dist, dist.get_rank(), dist.get_world_size()

    def add(self, numbers: Tensor) -> None:
        direct = numbers.device.type in ("cpu", "cuda")
        here = numbers if direct else numbers.cpu()
        self._do(lambda: self._dist.all_reduce(here))
        if not direct:
            numbers.copy_(here)

    def gather(self, content: bytes) -> list[bytes]:
        sizes = torch.zeros(self.size, dtype=torch.int64)
        sizes[self.rank] = len(content)
        self._do(lambda: self._dist.all_reduce(sizes))
        mine = torch.zeros(int(sizes.max()), dtype=torch.uint8)
        mine[: len(content)] = _tensor(content)
        parts = [torch.empty_like(mine) for _ in range(self.size)] if self.rank == 0 else None
        self._do(lambda: self._dist.gather(mine, parts))
        return [part.numpy().tobytes()[:size] for part, size in zip(parts or [], sizes.tolist(), strict=False)]

    def spread(self, content: bytes) -> bytes:
        size = torch.tensor([len(content)])
        self._do(lambda: self._dist.broadcast(size, 0))
        whole = _tensor(content) if self.rank == 0 else torch.empty(int(size), dtype=torch.uint8)
        self._do(lambda: self._dist.broadcast(whole, 0))
        return whole.numpy().tobytes()

    def _do(self, what: Callable[[], object]) -> None:
        try:
            what()
        except RuntimeError as error:
            _lost(error)


@contextmanager
def together() -> Iterator[Ranks]:
    """The processes that torchrun, or another launcher that sets its environment variables, has started with this one.

    Raises:
        LostRankError: the others are not to be reached.
    """
    if _processes.ranks() == 1:
        yield Ranks()
        return
    import torch.distributed as dist

    from ._meeting import unused_part

    try:
        store, rank, size = next(dist.rendezvous("env://", timeout=_PATIENCE))  # type: ignore[reportPrivateImportUsage]
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=unused_part(store, rank, size), rank=rank, world_size=size, timeout=_PATIENCE)
    except RuntimeError as error:
        _lost(error)
    yield Ranks(Distributed())
    dist.destroy_process_group()


def _tensor(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)


def _lost(error: RuntimeError) -> NoReturn:
    reason = str(error).strip().splitlines()[-1]
    raise LostRankError(
        f"another process of the training has ended, or cannot be reached ({reason:.120}); this one ends too. What was saved stands: go on "
        "with --resume, or let torchrun do it (--max-restarts)."
    ) from None
