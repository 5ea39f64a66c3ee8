"""The ways to train a client: as it is, accelerated, by an integration, and as it is from weights that differ in the last bit.

The last is the control. Rounding grows in training, in reinforcement learning more than elsewhere; how far two trainings of torch.nn
part that differ by one rounding of the first weights is what "equal within float error" means for that client.
"""

import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

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
        for layer in model.modules():
            nudge(layer)


def nudge(layer: nn.Module) -> None:
    """Change every weight of a recurrent layer by its last bit."""
    if isinstance(layer, nn.RNNBase):
        with torch.no_grad():
            for p in layer.parameters():
                p.mul_(1 + torch.finfo(p.dtype).eps)


def nudge_at_first_use() -> None:
    """For programs whose layers are out of reach: nudge every recurrent layer when it is called for the first time."""
    nudged = weakref.WeakSet[nn.Module]()

    def before(layer: nn.Module, _: Any) -> None:
        if layer not in nudged:
            nudged.add(layer)
            nudge(layer)

    register_module_forward_pre_hook(before)


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
