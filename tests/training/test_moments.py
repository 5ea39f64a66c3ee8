"""The optimiser's moments in a saved state: those of this optimiser, or a sentence."""

import pytest
import torch

from throughtime import InputError, LanguageModel
from throughtime.training import OptimiserOptions
from throughtime.training._files import read_tensors, write_tensors
from throughtime.training._optimisers import build_optimizer
from throughtime.training._state import Progress, load_state, save_state

OPTIMISERS = ["sgd", "adam", "adamw", "nadam", "rmsprop", "adagrad"]


def stepped(name: str, steps: int) -> tuple[LanguageModel, torch.optim.Optimizer]:
    model = LanguageModel(5, hidden_size=3)
    optimizer = build_optimizer(OptimiserOptions(optimizer=name, momentum=0.5 if name in ("sgd", "rmsprop") else 0.0), model)
    for _ in range(steps):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("before", [0, 2], ids=["fresh", "with moments"])
@pytest.mark.parametrize("after", [0, 1], ids=["before the first step", "after it"])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimisers_moments_are_put_back(name, after, before, tmp_path):
    model, optimizer = stepped(name, after)
    save_state(tmp_path / "state", model, optimizer, None, {"cpu": torch.get_rng_state()}, Progress())
    other, again = stepped(name, before)
    load_state(tmp_path / "state", other, again)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)
        for moment, value in optimizer.state[p].items():
            assert torch.as_tensor(value).equal(torch.as_tensor(again.state[q][moment]))


@pytest.mark.parametrize("name", OPTIMISERS)
def test_moments_of_other_names_are_refused(name, tmp_path):
    model, optimizer = stepped(name, 1)
    file = tmp_path / "state"
    save_state(file, model, optimizer, None, {"cpu": torch.get_rng_state()}, Progress())
    tensors, about = read_tensors(file)
    (renamed,) = [key for key in tensors if key.startswith("optimizer.0.")][-1:]
    tensors["optimizer.0.foreign"] = tensors.pop(renamed)
    write_tensors(file, tensors, about)
    with pytest.raises(InputError, match="the optimiser's moments of weight 0 have other names"):
        load_state(file, *stepped(name, 0))


def test_adagrad_begins_no_weight_anew(tmp_path):
    model, optimizer = stepped("adagrad", 1)
    file = tmp_path / "state"
    save_state(file, model, optimizer, None, {"cpu": torch.get_rng_state()}, Progress())
    tensors, about = read_tensors(file)
    write_tensors(file, {key: value for key, value in tensors.items() if not key.startswith("optimizer.0.")}, about)
    with pytest.raises(InputError, match="moments of some weights are missing"):
        load_state(file, *stepped("adagrad", 0))
