"""An accelerated model under DistributedDataParallel over gloo: two halves of a batch, one whole. Run by test_accelerate."""

import sys
from pathlib import Path

import torch
from torch import nn

import throughtime as tt

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from _rounding import assert_close, path, rounding


def trained(model: nn.Module, tokens: torch.Tensor) -> list[torch.Tensor]:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        optimiser.zero_grad()
        hs, _ = model(nn.functional.one_hot(tokens, 7).double())
        hs.square().mean().backward()
        optimiser.step()
    return [p.detach() for p in model.parameters()]


def worker(rank: int, file: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    torch.set_default_dtype(torch.float64)
    tokens = torch.arange(36).view(6, 6) % 7
    torch.manual_seed(0)
    single = nn.GRU(7, 5, 2, batch_first=True)
    torch.manual_seed(0)
    halved = tt.accelerate(nn.parallel.DistributedDataParallel(nn.GRU(7, 5, 2, batch_first=True)))
    assert isinstance(halved.module, tt.GRU)
    for a, b in zip(trained(halved, tokens[3 * rank : 3 * rank + 3]), trained(single, tokens), strict=True):
        assert_close([a], [b], rounding(path(6, 17, 2), condition=10.0))  # sums over halves of the batch
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.spawn(worker, (sys.argv[1],), nprocs=2)
