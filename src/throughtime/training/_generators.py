"""torch's generators, of the processor and of every accelerator that is in use: what dropout and random states are drawn from."""

import torch
from torch import Tensor


def generator_states() -> dict[str, Tensor]:
    """The state of each generator, by the name of its device."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        states |= {f"cuda:{i}": torch.cuda.get_rng_state(i) for i in range(torch.cuda.device_count())}
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_generator_states(states: dict[str, Tensor]) -> None:
    """Put them back; a device that is not there any more draws nothing.

    Raises:
        RuntimeError: something that is no generator's state.
    """
    for name, state in states.items():
        kind, _, index = name.partition(":")
        if kind == "cpu":
            torch.set_rng_state(state)
        elif kind == "cuda" and int(index) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, int(index))
        elif kind == "mps" and torch.backends.mps.is_available():
            torch.mps.set_rng_state(state)
