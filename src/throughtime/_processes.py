"""What a launcher such as torchrun has told this process of its fellows, by environment variables. No torch is imported."""

import os


def rank() -> int:
    """This process's number among those that share a training; 0 if it is alone."""
    return _number("RANK", 0) if ranks() > 1 else 0


def ranks() -> int:
    """How many processes share a training."""
    return _number("WORLD_SIZE", 1) if "RANK" in os.environ and "MASTER_ADDR" in os.environ else 1


def local_rank() -> int:
    """This process's number among those on its machine."""
    return _number("LOCAL_RANK", 0) if ranks() > 1 else 0


def local_ranks() -> int:
    """How many of them are on this machine."""
    return _number("LOCAL_WORLD_SIZE", 1) if ranks() > 1 else 1


def job() -> str:
    """The name of torchrun's job, the same after each of its restarts; empty without torchrun.

    Without an identifier of its own, the job is the launching process.
    """
    name = os.environ.get("TORCHELASTIC_RUN_ID", "")
    return f"{name}:{os.getppid()}" if name == "none" else name


def may_restart() -> bool:
    """Whether torchrun starts the processes again after one has failed."""
    return _number("TORCHELASTIC_MAX_RESTARTS", 0) > 0


def _number(name: str, otherwise: int) -> int:
    word = os.environ.get(name, "")
    return int(word) if word.isdecimal() else otherwise
