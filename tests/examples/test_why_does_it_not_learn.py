"""The example's story holds in a short run: it fails, the verdict says so, it is mended, it learns."""

import importlib.util
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "why_does_it_not_learn.py"


@pytest.mark.slow
def test_the_story_holds(capsys):
    torch.set_default_dtype(torch.float32)
    spec = importlib.util.spec_from_file_location("why_does_it_not_learn", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    (before, failed), (after, learned) = example.story(length=40, steps=200)
    assert (before.verdict.state, after.verdict.state) == ("vanishing", "healthy")
    assert before.verdict.horizon < 15
    assert failed < 0.4
    assert learned > 0.9
    assert "Mended as advised: Chrono(longest=40)" in capsys.readouterr().out
