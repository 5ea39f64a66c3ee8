"""A byte of the saved state is changed at every kilobyte in turn."""

from pathlib import Path

import torch

from throughtime import InputError
from throughtime.training._files import read_tensors


def spoilt(run: Path) -> dict[str, int]:
    """How many places were changed, and how many of those were not noticed although the content differs."""
    path = run / "state.safetensors"
    whole = path.read_bytes()
    good, about = read_tensors(path)
    places, taken = range(0, len(whole), 1024), 0
    for at in places:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            read, told = read_tensors(path)
            taken += told != about or read.keys() != good.keys() or any(not torch.equal(read[k], good[k]) for k in good)
        except InputError:
            pass
    path.write_bytes(whole)
    return {"spoilt": len(places), "taken": taken}
