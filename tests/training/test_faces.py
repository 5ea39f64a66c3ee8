"""What ``load`` gives for runs of frames and of labels: the verbs that they have, and a stream in the units of their file."""

import numpy as np
import pytest
import torch

import throughtime as tt
from throughtime.cli import main

SIZES = ["--hidden", "5", "--batch-size", "4", "--steps", "4", "--threads", "1"]
# float32: 5 units, 9 steps of sums of 3 and 5 terms
CLOSE = dict(rtol=0, atol=8 * torch.finfo(torch.float32).eps * 9 * (3 + 5))


@pytest.fixture(autouse=True)
def _as_in_a_shell(tmp_path, monkeypatch, no_pictures):
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "real"])
def test_frames(binary):
    rng = np.random.default_rng(0)
    pieces = {
        part: (rng.random((6, 9, 3)) < 0.3) * 1.0 if binary else 5 + 3 * rng.normal(size=(6, 9, 3)) for part in ("train", "valid", "test")
    }
    np.savez("frames.npz", **pieces)
    assert main(["train", "frames", "frames.npz", *SIZES, "--out", "run"]) in (0, 1)  # 1: in four steps it has learned too little
    trained = tt.load("run")
    piece = pieces["test"][0]
    stream = trained.stream()
    for _ in range(2):
        stream.reset()
        found = np.stack([stream.push(frame) for frame in piece])
    expected = trained.sample(piece, 1, temperature=0)[-1]
    if binary:
        assert np.array_equal(found[-1] > 0.5, expected)
        assert ((found > 0) & (found < 1)).all()
    else:
        assert np.allclose(found[-1], expected, rtol=0, atol=CLOSE["atol"] * 3)  # in units of a deviation of 3
    beside = trained.stream(2)
    both = np.stack([beside.push(frames) for frames in pieces["test"][:2].transpose(1, 0, 2)])
    assert np.allclose(both[:, 0], found, rtol=0, atol=CLOSE["atol"] * 3)
    for call, message in (
        (lambda: stream.push(piece[0, :2]), r"row has shape \(2,\); expected finite numbers of shape \(1, 3\)"),
        (lambda: stream.push(piece[0] * np.nan), "expected finite numbers"),
        (lambda: trained.forecast(), r"is a model of frames, which has no forecast\(\)"),
        (lambda: trained.predict(), r"has no predict\(\); expected a verb that it has. Use sample\(\), stream\(\) or evaluate\(\)"),
    ):
        with pytest.raises(tt.InputError, match=message):
            call()


def test_labels():
    rng = np.random.default_rng(0)
    x = 5 + 3 * rng.normal(size=(30, 9, 3))
    np.savez("labels.npz", x=x, y=(x[:, :, 0].sum(1) > 45).astype(int))
    assert main(["train", "labels", "labels.npz", *SIZES, "--out", "run"]) == 0
    trained = tt.load("run")
    stream = trained.stream(2)
    found = [stream.push(rows) for rows in x[:2].transpose(1, 0, 2)][-1]
    assert np.allclose(found, trained.predict(x[:2]).probabilities, **CLOSE)
    stream.reset([True, False])
    assert not stream.state[0][:, 0].any()
    assert stream.state[0][:, 1].any()
    with pytest.raises(tt.InputError, match=r"is a classifier of sequences, which has no sample\(\)"):
        trained.sample()
    with pytest.raises(NotImplementedError, match="reads in both directions"):
        tt.Stream(tt.models.SequenceClassifier(3, 2, bidirectional=True))
