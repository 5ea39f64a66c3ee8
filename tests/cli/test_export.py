"""``throughtime export``: the file holds all that another runtime needs, and every refusal is a sentence."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

from throughtime.cli import main
from throughtime.training import RunFolder


@pytest.fixture(autouse=True)
def _as_in_a_shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One run that all tests may share; what is exported goes elsewhere."""
    torch.set_default_dtype(torch.float32)
    folder = tmp_path_factory.mktemp("trained")
    (folder / "book.txt").write_text("the cat sat on the mat.\n" * 40)
    small = ["--cell", "lstm", "--layers", "2", "--hidden", "6", "--batch-size", "4", "--bptt", "8", "--steps", "6", "--threads", "1"]
    assert main(["train", "text", str(folder / "book.txt"), *small, "--initial", "learnable", "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_from_text_to_another_runtime(trained, capsys):
    capsys.readouterr()
    assert main(["export", str(trained), "--format", "onnx", "--to", "model.onnx"]) == 0
    signature = "tokens (T, B), h_in, c_in (L, B, H) → logits (T, B, V), h_out, c_out (L, B, H), L 2, H 6, V 13"
    wrote, begins = capsys.readouterr().out.splitlines()
    assert wrote == f"wrote model.onnx: {signature}; the vocabulary is in metadata_props"
    assert begins.startswith("where no state is passed in, a sequence begins as in training; that is why onnxruntime warns")
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    run = onnxruntime.InferenceSession("model.onnx", quiet)
    facts = run.get_modelmeta().custom_metadata_map
    folder = RunFolder.open(trained)
    vocabulary = folder.task().vocabulary
    assert (facts["level"], json.loads(facts["vocabulary"])) == ("char", vocabulary.to_json())
    model = folder.load_model(folder.task(), torch.device("cpu"))
    tokens = torch.from_numpy(vocabulary.encode("the mat\n").astype(np.int64)).unsqueeze(1)
    with torch.no_grad():
        hs, _ = model.recurrence(model.input(tokens))
        wanted = model.head(hs).numpy()
    (got,) = run.run(["logits"], {"tokens": tokens.numpy()})
    assert np.abs(got - wanted).max() <= 8 * 2 * 24 * np.finfo(np.float32).eps  # T · L · (I + H + 12) roundings, as in test_onnx.py


def test_the_file_is_in_the_run_folder_where_no_name_is_given(trained):
    assert main(["export", str(trained)]) == 0
    assert (trained / "model.onnx").is_file()
    (trained / "model.onnx").unlink()


def test_a_full_disk_leaves_no_file(trained, tmp_path, monkeypatch, capsys):
    def full(aside, path, previous):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("throughtime.training._files._into_place", full)
    assert main(["export", str(trained), "--to", "model.onnx"]) == 2
    assert "the disk is full (model.onnx)" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
