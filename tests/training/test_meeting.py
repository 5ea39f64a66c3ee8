"""Ranks that are started again find each other, and not those that have died, in the store that both have used."""

import threading
import time

import pytest
import torch

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")


@pytest.fixture
def store():
    return torch.distributed.HashStore()


class Rank(threading.Thread):
    """A rank that looks for the others."""

    def __init__(self, store, rank: int, size: int) -> None:
        super().__init__(daemon=True)
        self.store, self.rank, self.size, self.found = store, rank, size, None
        self.before = store.get(f"word {rank}") if store.check([f"word {rank}"]) else b""
        self.start()

    def run(self) -> None:
        from throughtime.training._meeting import unused_part

        self.found = unused_part(self.store, self.rank, self.size)

    def has_come(self) -> "Rank":
        while not self.store.check([f"word {self.rank}"]) or self.store.get(f"word {self.rank}") == self.before:
            time.sleep(0.001)
        return self

    def place(self):
        self.join(60)
        return self.found


def attempt(store, order: list[int]) -> list:
    ranks = [Rank(store, r, len(order)).has_come() for r in order]
    return [rank.place() for rank in ranks]


@pytest.mark.parametrize("orders", [([0, 1], [1, 0], [0, 1]), ([2, 0, 1], [1, 2, 0], [0, 2, 1])], ids=["two", "three"])
def test_every_attempt_has_a_part_of_its_own(store, orders):
    for number, order in enumerate(orders):
        found = attempt(store, order)
        assert not any(place.check(["address"]) for place in found), f"attempt {number} found what another had left"
        found[0].set("address", "here")
        assert all(place.get("address") == b"here" for place in found)


def test_who_dies_before_all_have_come_is_not_waited_for(store):
    """A rank that has written its word, and one that has agreed, die: what they left is published once more, in vain."""
    store.set("word 1", "dead")
    first = Rank(store, 0, 3)
    while not store.check(["words"]):
        store.set("word 2", "dead")
        time.sleep(0.001)
    assert first.found is None
    others = [Rank(store, r, 3) for r in (1, 2)]
    first.place().set("address", "here")
    assert all(rank.place().get("address") == b"here" for rank in others)
