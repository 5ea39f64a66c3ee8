"""Several ranks in one process, a thread each: what is tested of a shared training, but for the messages between processes."""

import threading
from collections.abc import Callable
from typing import TypeVar, final

import torch

from throughtime.training import LostRankError, Ranks
from throughtime.training._ranks import AbstractLink

Result = TypeVar("Result")


class Meeting:
    """Where the ranks put what they send."""

    def __init__(self, size: int) -> None:
        self.barrier, self.sent = threading.Barrier(size, timeout=600), [None] * size

    def exchange(self, rank: int, what: object) -> list:
        """What each has sent; nobody leaves before all have read it."""
        try:
            self.sent[rank] = what
            self.barrier.wait()
            sent = list(self.sent)
            self.barrier.wait()
        except threading.BrokenBarrierError:
            raise LostRankError("another rank has ended") from None
        return sent


@final
class ThreadLink(AbstractLink):
    def __init__(self, rank: int, size: int, meeting: Meeting) -> None:
        self.rank, self.size, self._meeting = rank, size, meeting

    def add(self, numbers: torch.Tensor) -> None:
        numbers.copy_(torch.stack(self._meeting.exchange(self.rank, numbers.clone())).sum(0))

    def gather(self, content: bytes) -> list[bytes]:
        sent = self._meeting.exchange(self.rank, content)
        return sent if self.rank == 0 else []

    def spread(self, content: bytes) -> bytes:
        return self._meeting.exchange(self.rank, content)[0]


def together(size: int, work: Callable[[Ranks], Result]) -> list[Result]:
    """What each of ``size`` ranks returns; the error of the first that fails by itself."""
    meeting, results, errors = Meeting(size), [None] * size, []

    def run(rank: int) -> None:
        try:
            results[rank] = work(Ranks(ThreadLink(rank, size, meeting)))
        except BaseException as error:
            errors.append(error)
            meeting.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    own = [error for error in errors if not isinstance(error, LostRankError)]
    if errors:
        raise (own or errors)[0]
    return results
