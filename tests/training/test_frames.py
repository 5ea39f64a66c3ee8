"""A run of train frames: the loop of texts, on pieces of vectors."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import throughtime as tt
from throughtime import InputError
from throughtime.cli import main
from throughtime.training import RunFolder

SIZES = ["--hidden", "6", "--batch-size", "3", "--bptt", "7", "--threads", "1"]
LENGTHS = (20, 9, 14, 5, 11, 13, 17, 8)
D = 4


def pieces(binary=True):
    chance = np.random.default_rng(0)
    found = [np.cumsum(chance.normal(size=(n, D)), 0) * 3 + 10 for n in LENGTHS]
    return [(piece > piece.mean(0)).astype(np.uint8) for piece in found] if binary else found


def named(found):
    """Pieces whose names say the part."""
    return {f"{part}_{i}": piece for i, (part, piece) in enumerate(zip(["train"] * 5 + ["valid"] + ["test"] * 2, found, strict=True))}


@pytest.fixture(autouse=True)
def _as_in_a_shell(tmp_path, monkeypatch, no_pictures):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    np.savez(tmp_path / "rolls.npz", **named(pieces()))
    np.savez(tmp_path / "real.npz", **named(pieces(binary=False)))
    torch.set_default_dtype(torch.float32)


def train(*flags, file="rolls.npz"):
    return main(["train", "frames", file, *SIZES, *flags])


def rows(run, kind):
    return [row for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if row["kind"] == kind]


def test_resumed_to_the_same_bits(tmp_path):
    assert train("--steps", "24", "--eval-every", "5", "--dropout", "0.2", "--out", "whole") == 0
    assert train("--steps", "13", "--eval-every", "5", "--dropout", "0.2", "--out", "cut") == 0
    assert main(["train", "frames", "--out", "cut", "--resume", "--steps", "24"]) == 0
    for file in ("model.safetensors", "state.safetensors"):
        whole, cut = load_file(tmp_path / "whole" / file), load_file(tmp_path / "cut" / file)
        assert whole.keys() == cut.keys()
        assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_from_the_shell_to_a_piece(tmp_path, capsys):
    assert train("--steps", "20", "--out", "run") == 0
    assert "97 frames of 4 zeros and ones; pieces: train 5  valid 1  test 2" in capsys.readouterr().out
    for name in ("one.npy", "two.npy"):
        assert main(["sample", "run", "--length", "6", "--seed", "3", "--out", name]) == 0
    assert (tmp_path / "one.npy").read_bytes() == (tmp_path / "two.npy").read_bytes()
    one = np.load("one.npy")
    assert one.shape == (17 + 6, D)
    assert set(np.unique(one)) <= {0, 1}
    assert (one[:17] == pieces()[6]).all()  # the first test piece, gone on from
    assert main(["sample", "run", "--length", "3", "--count", "2", "--prompt", "one.npy", "--out", "several.npz"]) == 0
    assert [a.shape for a in np.load("several.npz").values()] == [(26, D)] * 2
    for verb in (
        ["evaluate", "run"],
        ["evaluate", "run", "--data", "several.npz", "--json"],
        ["flow", "run", "--streams", "2"],
        ["runs", "."],
    ):
        assert main(verb) == 0
    assert '"frames": 50, "pieces": 2' in capsys.readouterr().out
    assert main(["export", "run"]) == 0
    assert main(["compare-gradients", "run", "--methods", "full", "--length", "5", "--batch-size", "2"]) == 0
    assert main(["train", "frames", "--from", "run", "--steps", "2", "--out", "child"]) == 0
    assert main(["predict", "run"]) == 2
    assert "is a run of train frames; expected one of train labels" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["rolls.npz", "real.npz"])
def test_the_likelihood_is_that_of_each_frame_alone(file):
    """Frame by frame from Python, in the units of the file."""
    assert train("--steps", "5", "--out", "run", file=file) == 0
    trained = tt.load("run")
    found, count = 0.0, 0
    for piece in np.load(file).values():
        xs = torch.from_numpy((piece - trained.frames.pieces.mean) / trained.frames.pieces.scale).float()
        with torch.no_grad():
            o, _ = trained.model(xs[:-1, None])
        if trained.frames.binary:
            p = torch.sigmoid(o[:, 0]).double()
            found -= float((xs[1:] * p.log() + (1 - xs[1:]) * (1 - p).log()).sum())
        else:
            scale = torch.from_numpy(trained.frames.pieces.scale)
            mean = trained.model.head.loss.point(o)[:, 0] * scale + torch.from_numpy(trained.frames.pieces.mean)
            deviation = trained.model.head.loss.deviation(o)[:, 0] * scale
            found -= float(torch.distributions.Normal(mean, deviation).log_prob(torch.from_numpy(piece[1:])).sum())
        count += len(piece) - 1
    score = trained.evaluate(data=file)
    assert score.frames == count == sum(LENGTHS) - len(LENGTHS)
    eps = float(torch.finfo(torch.float32).eps)  # sums of 4 numbers behind 20 steps of 6 units and 4 inputs, all in float32
    assert abs(score.nll - found / count) <= 4 * eps * 20 * (6 + 4) * D * max(1.0, abs(found / count))


def test_the_same_model_in_plain_torch_has_the_same_losses(tmp_path):
    """torch's own GRU and linear layer, from the same seed, on the same batches, with the same rule."""
    assert train("--steps", "10", "--optimizer", "sgd", "--lr", "0.1", "--out", "run") == 0
    (row,) = rows(tmp_path / "run", "train")
    folder = RunFolder.open(tmp_path / "run")
    torch.manual_seed(folder.config.loop.seed)
    gru, linear = torch.nn.GRU(D, 6), torch.nn.Linear(6, D)
    parameters = [*gru.parameters(), *linear.parameters()]
    rule, h, losses, stream = torch.optim.SGD(parameters, 0.1), None, [], folder.task().stream(folder.config.loop)
    for step in range(10):
        batch = stream.at(step)
        hs, h = gru(batch.inputs, None if batch.fresh.all() else h.detach())
        each = torch.nn.functional.binary_cross_entropy_with_logits(linear(hs), batch.targets, reduction="none").sum(-1)
        loss = each[batch.mask].sum() / batch.mask.sum()
        rule.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        rule.step()
        losses.append(loss.item())
    eps = float(torch.finfo(torch.float32).eps)  # windows of 7 steps of 6 units and 4 inputs, and ten updates one after another
    assert abs(np.mean(losses) - row["loss"]) <= 4 * eps * 10 * 2 * (7 + 1) * (6 + D) * np.mean(losses)


def test_a_file_of_boulanger_lewandowski(tmp_path, capsys):
    savemat = pytest.importorskip("scipy.io").savemat
    found = pieces()
    cells = {"traindata": found[:5], "validdata": found[5:6], "testdata": found[6:]}
    made = {name: np.empty((1, len(those)), object) for name, those in cells.items()}
    for name, those in cells.items():
        for i, piece in enumerate(those):
            made[name][0, i] = piece
    savemat(tmp_path / "bach.mat", made)
    assert train("--steps", "2", "--out", "mat", file="bach.mat") == 0
    assert train("--steps", "2", "--out", "npz") == 0
    assert "97 frames of 4 zeros and ones; pieces: train 5  valid 1  test 2" in capsys.readouterr().out
    assert rows(tmp_path / "mat", "valid")[-1]["loss"] == rows(tmp_path / "npz", "valid")[-1]["loss"]


def test_arrays_without_parts_are_split(tmp_path, capsys):
    np.save(tmp_path / "one.npy", pieces()[0])
    assert train("--steps", "1", "--split", "0.5,0.25,0.25", "--out", "one", file="one.npy") == 0
    assert "pieces: train 1  valid 1  test 1" in capsys.readouterr().out
    np.savez(tmp_path / "padded.npz", rolls=np.zeros((10, 6, D)), lengths=np.arange(2, 12).clip(max=6), notes=np.array(["c", "d"]))
    assert train("--steps", "1", "--key", "rolls", "--out", "padded", file="padded.npz") == 0
    assert "pieces: train 8  valid 1  test 1" in capsys.readouterr().out
    assert len(tt.load("padded").frames.pieces.values) == sum(np.arange(2, 12).clip(max=6))


def spoilt(tmp_path):
    """Files that no run may come of."""
    good = pieces()
    with (tmp_path / "object.npz").open("wb") as file:
        np.savez(file, train=np.array([{"a": 1}, None], dtype=object))
    np.save(tmp_path / "object.npy", np.array([[1], [2, 3]], dtype=object), allow_pickle=True)
    (tmp_path / "pickled.npy").write_bytes(b"\x80\x04K\x01.")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "rolls.npz").read_bytes()[:400])
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "noise.mat").write_bytes(bytes(range(256)) * 2)
    np.save(tmp_path / "nan.npy", np.where(np.eye(5, D, k=-1) > 0, np.nan, 1.0))
    np.save(tmp_path / "words.npy", np.array([["a", "b"], ["c", "d"]]))
    np.save(tmp_path / "flat.npy", np.ones(7))
    np.savez(tmp_path / "widths.npz", train=good[0], test=good[1][:, :3])
    np.savez(tmp_path / "long.npz", train=np.zeros((2, 5, D)), lengths=np.array([5, 9]))
    np.savez(tmp_path / "odd.npz", train=good[0], rate=good[1])
    np.save(tmp_path / "short.npy", np.ones((1, D)))


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("none.npz", "none.npz cannot be read (no such file)"),
        ("object.npz", "array 'train', has Python objects in it, which are read by pickle and could run code"),
        ("object.npy", "has Python objects in it, which are read by pickle and could run code"),
        ("pickled.npy", "has Python objects in it, which are read by pickle and could run code"),
        ("cut.npz", "cut.npz is damaged or no file of numpy's"),
        ("empty.npz", "empty.npz is damaged or no file of numpy's"),
        ("noise.mat", "noise.mat is damaged or no mat file"),
        ("nan.npy", "the array has nan at [1, 0]; expected finite numbers"),
        ("words.npy", "the array has text in it; expected numbers"),
        ("flat.npy", "the array has shape (7,); expected pieces (T, D)"),
        ("widths.npz", "pieces have frames of 3, 4 numbers; expected one width"),
        ("long.npz", "array 'lengths' has the length 9; expected 1 to 5"),
        ("odd.npz", "the name of array 'rate' begins with none of train, valid, test, but others' do"),
        ("short.npy", "no piece has more than one frame"),
        ("rolls.npz --key roll", "--key is 'roll', which is no array of rolls.npz; expected one of train_0"),
        ("real.npz --loss bernoulli", "expected 0 and 1 alone for --loss bernoulli"),
        ("rolls.npz --bidirectional", "must not have read it, and the second direction has"),
        ("rolls.npz --sample-every 5", "--sample-every is given with train frames"),
        ("", "no files are named; expected one"),
        ("rolls.npz real.npz", "2 files are named; expected one"),
    ],
)
def test_one_sentence_and_nothing_is_left(tmp_path, capsys, file, words):
    spoilt(tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    assert main(["train", "frames", *file.split(), *SIZES, "--out", "runs/x"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_sample_that_cannot_be(tmp_path, capsys):
    assert train("--steps", "1", "--out", "run") == 0
    np.save(tmp_path / "wide.npy", np.ones((3, 9)))
    np.save(tmp_path / "real.npy", np.full((3, D), 0.5))
    for flags, words in (
        (["--prompt", "wide.npy"], "wide.npy has frames of shape (3, 9); expected (T, 4)"),
        (["--prompt", "real.npy"], "has other numbers than the run learned from; expected 0 and 1"),
        (["--top-k", "3"], "--top-k is given for a run of train frames"),
        (["--out", "piece.wav"], "expected a name that ends in .npy or .npz"),
        (["--length", "0"], "--length is 0"),
    ):
        assert main(["sample", "run", *flags]) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(InputError, match="part is 'all'"):
        tt.load("run").evaluate("all")
    assert not (tmp_path / "piece.npy").exists()
