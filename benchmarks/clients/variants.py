"""The ways to train a client: as it is, accelerated, by an integration, and as it is from weights that differ in the last bit.

The last is the control. Rounding grows in training, in reinforcement learning more than elsewhere; how far two trainings of torch.nn
part that differ by one rounding of the first weights is what "equal within float error" means for that client.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

VARIANTS = ("torch", "throughtime", "integration", "nudged")


def apply(variant: str, model: nn.Module, integration: Callable[[Any], Any] | None = None) -> None:
    """Make ``model`` the variant, in place."""
    if variant == "throughtime":
        import throughtime as tt

        tt.accelerate(model)
    elif variant == "integration":
        if integration is None:
            raise SystemExit("this client has no integration")
        integration(model)
    elif variant == "nudged":
        recurrent = [m for m in model.modules() if isinstance(m, nn.RNNBase)]
        with torch.no_grad():
            for p in (p for m in recurrent for p in m.parameters()):
                p.mul_(1 + torch.finfo(p.dtype).eps)


class Timed:
    """A function, and how long its calls have taken together, without the first, which imports: an agent's updates, not its roll-outs."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.calls, self.seconds, self.processor_seconds = function, 0, 0.0, 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        start, busy = time.perf_counter(), time.process_time()
        result = self.function(*args, **kwargs)
        if self.calls:
            self.seconds += time.perf_counter() - start
            self.processor_seconds += time.process_time() - busy
        self.calls += 1
        return result
