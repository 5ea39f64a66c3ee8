"""The three ways to train a client: as it is, accelerated, and as it is from weights that differ in the last bit.

The third is the control. Rounding grows in training, in reinforcement learning more than elsewhere; how far two trainings of torch.nn
part that differ by one rounding of the first weights is what "equal within float error" means for that client.
"""

import torch
from torch import nn

VARIANTS = ("torch", "throughtime", "nudged")


def apply(variant: str, model: nn.Module) -> None:
    """Make ``model`` the variant, in place."""
    if variant == "throughtime":
        import throughtime as tt

        tt.accelerate(model)
    elif variant == "nudged":
        recurrent = [m for m in model.modules() if isinstance(m, nn.RNNBase)]
        with torch.no_grad():
            for p in (p for m in recurrent for p in m.parameters()):
                p.mul_(1 + torch.finfo(p.dtype).eps)
