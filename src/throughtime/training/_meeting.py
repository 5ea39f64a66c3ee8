"""Where the processes of one attempt find each other, in a store that remembers the attempts before it.

torchrun starts all ranks again after one has died, and gives them the store that the dead have used. What these left there, such as the
addresses at which they listened, would be taken for true (pytorch/pytorch#135712). So those that are alive agree first on a part of the
store that nobody has used before:

    (1) Each rank writes a word of its own, drawn at random, over that of its predecessor.
    (2) Rank 0 publishes all words, again whenever one has changed.
    (3) Each rank agrees to words among which it finds its own.
    (4) Rank 0 lets all go once all have agreed.

The dead agree to nothing: words among which there is one of theirs are published in vain, until their successors have come.
"""

import hashlib
import time
import uuid

from torch.distributed import PrefixStore, Store  # type: ignore[reportPrivateImportUsage]

_PAUSE = 0.02  # seconds


def unused_part(store: Store, rank: int, size: int) -> Store:
    """A part of the store that the ``size`` ranks of this attempt share, and no others.

    Raises:
        RuntimeError: the store is not to be reached any more.
    """
    word = uuid.uuid4().hex
    store.set(f"word {rank}", word)  # (1)
    while not (place := _agreed(store, rank, size, word)):
        time.sleep(_PAUSE)
    return PrefixStore(place, store)


def _agreed(store: Store, rank: int, size: int, word: str) -> str:
    """The name of the part that all have agreed to; empty: not yet."""
    if rank == 0 and store.check(words := [f"word {r}" for r in range(size)]):
        store.set("words", " ".join(store.get(name).decode() for name in words))  # (2)
    published = store.get("words").decode() if store.check(["words"]) else ""
    if word not in published.split():
        return ""
    place = hashlib.blake2b(published.encode(), digest_size=16).hexdigest()
    store.set(f"{place} {rank}", "agreed")  # (3)
    if rank == 0 and store.check([f"{place} {r}" for r in range(size)]):
        store.set(f"{place} go", "go")  # (4)
    return place if store.check([f"{place} go"]) else ""
