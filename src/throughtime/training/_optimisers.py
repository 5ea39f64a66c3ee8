"""torch's optimisers by the names of the command's flags."""

import torch
from torch import nn

from .options import OptimiserOptions


def build_optimizer(options: OptimiserOptions, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over all of a model's parameters; the fused form where torch has one for the device."""
    parameters, lr, decay = list(model.parameters()), options.rate, options.weight_decay
    match options.optimizer:
        case "sgd":
            return torch.optim.SGD(parameters, lr, momentum=options.momentum, weight_decay=decay, fused=True)
        case "adam":
            return torch.optim.Adam(parameters, lr, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(parameters, lr, weight_decay=decay, fused=True)
        case "nadam":
            return torch.optim.NAdam(parameters, lr, weight_decay=decay)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr, alpha=0.95, momentum=options.momentum, weight_decay=decay)
        case "adagrad":
            return torch.optim.Adagrad(parameters, lr, weight_decay=decay)
