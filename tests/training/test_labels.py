"""A run of train labels: the loop of texts, on sequences with labels."""

import csv
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import throughtime as tt
from throughtime import InputError
from throughtime.cli import main
from throughtime.training import RunFolder

pytest.importorskip("sklearn")
SIZES = ["--hidden", "6", "--batch-size", "4", "--threads", "1"]
N, T, I = 40, 12, 2


def arrays():
    """Three classes that shift the numbers; a tag a step that says their sign."""
    chance = np.random.default_rng(0)
    y, lengths = np.arange(N) % 3, chance.integers(3, T + 1, N)
    x = chance.normal(size=(N, T, I)) + y[:, None, None] * np.array([1.0, -0.5])
    x[np.arange(T) >= lengths[:, None]] = 0
    tags = np.where(x[..., 0] > 1, 1, 0)
    tags[0, 1] = -100
    return x, y, lengths, tags


def table(each):
    x, y, lengths, tags = arrays()
    rows = ["id,t,a,b,label"]
    for i in range(N):
        for t in reversed(range(lengths[i])):  # --time puts them in order
            word = "abc"[y[i]] if each == "sequence" else "" if tags[i, t] < 0 else "xy"[tags[i, t]]
            rows.append(f"s{i},{t},{x[i, t, 0]:.6f},{x[i, t, 1]:.6f},{word}")
    return "\n".join(rows) + "\n"


@pytest.fixture(autouse=True)
def _as_in_a_shell(tmp_path, monkeypatch, no_pictures):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    x, y, lengths, tags = arrays()
    np.savez(tmp_path / "x.npz", x=x, y=y, lengths=lengths)
    np.savez(tmp_path / "tags.npz", x=x, y=tags, lengths=lengths)
    (tmp_path / "x.csv").write_text(table("sequence"))
    torch.set_default_dtype(torch.float32)


def train(file, *flags):
    return main(["train", "labels", file, *SIZES, *flags])


def rows(run, kind):
    return [row for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if row["kind"] == kind]


@pytest.mark.slow
def test_resumed_to_the_same_bits(tmp_path):
    """In both directions, and in windows that are shorter than the sequences."""
    for name, flags in (("two", ["--bidirectional", "--class-weights", "balanced"]), ("windows", ["--bptt", "5", "--layers", "2"])):
        for out, steps in ((f"{name}-whole", "14"), (f"{name}-cut", "7")):
            assert train("x.npz", "--steps", steps, "--eval-every", "4", "--dropout", "0.2", *flags, "--out", out) == 0
        assert main(["train", "labels", "--out", f"{name}-cut", "--resume", "--steps", "14"]) == 0
        for file in ("model.safetensors", "state.safetensors"):
            whole, cut = (load_file(tmp_path / f"{name}-{which}" / file) for which in ("whole", "cut"))
            assert whole.keys() == cut.keys()
            assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_from_the_shell_to_labels(tmp_path, capsys):
    assert train("x.csv", "--time", "t", "--steps", "40", "--lr", "0.02", "--out", "run") == 0
    assert "3 classes (a, b, c), one a sequence; 2 features; sequences: train 31  valid 6  test 3" in capsys.readouterr().out
    for name in ("one.csv", "two.csv"):
        assert main(["predict", "run", "--data", "x.csv", "--out", name]) == 0
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    found = list(csv.DictReader((tmp_path / "one.csv").read_text().splitlines()))
    assert [row["id"] for row in found] == [f"s{i}" for i in range(N)]
    right = np.mean([row["label"] == "abc"[y] for row, y in zip(found, arrays()[1], strict=True)])
    assert right > 0.6  # a third by chance
    assert all(row["label"] == max("abc", key=lambda c: float(row[f"p_{c}"])) for row in found)
    assert main(["evaluate", "run", "--data", "x.csv", "--json"]) == 0
    score = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert score["labels"] == N
    assert abs(score["accuracy"] - right) < 1e-12
    assert np.array(score["confusion"]).sum() == N
    assert main(["predict", "run"]) == 0
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 1 + 3
    for verb in (["evaluate", "run"], ["flow", "run", "--streams", "2"], ["runs", "."]):
        assert main(verb) == 0
    out = capsys.readouterr().out
    assert "test, commonest class" in out
    assert (tmp_path / "run" / "confusion.png").is_file()
    assert main(["export", "run"]) == 0
    assert main(["compare-gradients", "run", "--methods", "full", "--batch-size", "2"]) == 0
    assert main(["train", "labels", "--from", "run", "--steps", "2", "--out", "child"]) == 0
    assert main(["sample", "run"]) == 2
    assert "is a run of train labels; expected one of train text or train frames. Use throughtime predict" in capsys.readouterr().err
    assert main(["predict", "run"]) == 2
    assert "labels.csv" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--bidirectional"], ["--bptt", "5"]], ids=["forward", "both ways", "windows"])
@pytest.mark.parametrize("file", ["x.npz", "tags.npz"])
def test_scores_and_labels_are_those_of_each_sequence_alone(file, flags):
    """The loss with its class weights, and every probability, found again from Python, sequence by sequence."""
    if flags == ["--bptt", "5"] and file == "x.npz":
        flags = [*flags, "--layers", "2"]
    assert train(file, "--steps", "4", "--class-weights", "balanced", *flags, "--out", "run") in (0, 1)
    trained = tt.load("run")
    data, labels = np.load(file), trained.labels
    weights = labels.weights("balanced")
    pieces = [labels.pieces.standardised(x[:n]) for x, n in zip(data["x"], data["lengths"], strict=True)]
    cost, right, count, rows = 0.0, 0, 0, []
    for piece, y in zip(pieces, data["y"], strict=True):
        p = trained.model.probabilities(torch.from_numpy(piece)[:, None])[..., 0, :] if labels.each == "step" else None
        p = trained.model.probabilities(torch.from_numpy(piece)[:, None]) if p is None else p
        rows.append(p)
        for own, true in zip(p, np.atleast_1d(y)[: len(p)], strict=True):
            if true >= 0:
                cost, right, count = cost - weights[true] * float(own[true].log()), right + int(own.argmax() == true), count + 1
    score = trained.evaluate(data=file)
    eps = float(torch.finfo(torch.float32).eps)  # 12 steps of 6 units, 2 inputs, two layers and directions, a softmax
    assert len(score.truth) == count
    assert abs(score.loss - cost / count) <= 4 * eps * 12 * (6 + 6 + 2) * 2
    assert score.accuracy == right / count
    wanted = torch.cat(rows).double().numpy()
    for found in (trained.predict(file), trained.predict(data["x"], data["lengths"])):
        np.testing.assert_allclose(found.probabilities, wanted, atol=4 * eps * 12 * (6 + 6 + 2) * 2)
        assert found.labels == [labels.classes[c] for c in found.probabilities.argmax(1)]


def test_the_same_model_in_plain_torch_has_the_same_losses(tmp_path):
    """torch's own bidirectional LSTM over packed sequences, from the same seed, on the same batches, with the same rule."""
    flags = ["--cell", "lstm", "--bidirectional", "--class-weights", "balanced", "--optimizer", "sgd", "--lr", "0.1"]
    assert train("x.npz", "--steps", "10", *flags, "--out", "run") in (0, 1)
    (row,) = rows(tmp_path / "run", "train")
    folder = RunFolder.open(tmp_path / "run")
    task = folder.task()
    torch.manual_seed(folder.config.loop.seed)
    lstm, linear = torch.nn.LSTM(I, 6, bidirectional=True), torch.nn.Linear(12, 3)
    parameters = [*lstm.parameters(), *linear.parameters()]
    weights = torch.from_numpy(task.labels.weights("balanced"))
    rule, losses, stream = torch.optim.SGD(parameters, 0.1), [], task.stream(folder.config.loop)
    for step in range(10):
        batch = stream.at(step)
        some = batch.mask.any(0)
        lengths, y = batch.mask.sum(0)[some], batch.targets[-1, some]
        y = batch.targets[lengths - 1, some.nonzero()[:, 0]]
        packed = torch.nn.utils.rnn.pack_padded_sequence(batch.inputs[:, some], lengths, enforce_sorted=False)
        _, (h, _) = lstm(packed)
        each = torch.nn.functional.cross_entropy(linear(torch.cat((h[0], h[1]), -1)), y, weight=weights, reduction="none")
        rule.zero_grad()
        each.mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        rule.step()
        losses.append(each.mean().item())
    eps = float(torch.finfo(torch.float32).eps)  # 12 steps of 6 units and 2 inputs in two directions, and ten updates one after another
    assert abs(np.mean(losses) - row["loss"]) <= 4 * eps * 10 * 2 * (12 + 1) * (6 + 2) * 2 * np.mean(losses)


def test_a_window_without_a_label_changes_no_weight(tmp_path):
    """Of a sequence that is longer than the window only the last window has a loss; rows of the log are means over such windows."""
    np.savez(tmp_path / "long.npz", x=np.ones((6, 9, 1)), y=np.arange(6) % 2)
    assert train("long.npz", "--bptt", "3", "--steps", "30", "--split", "1,0,0", "--out", "run") in (0, 1)
    logged = [row["loss"] for row in rows(tmp_path / "run", "train")]
    assert all(abs(loss - np.log(2)) < 0.3 for loss in logged)  # diluted by windows without a loss it would be a third
    folder = RunFolder.open(tmp_path / "run")
    stream, model = folder.task().stream(folder.config.loop), folder.load_model(folder.task(), torch.device("cpu"))
    from throughtime.gradients import TruncatedBPTT
    from throughtime.training import step

    rule, carry = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.1), None
    for i in range(6):
        before = [p.clone() for p in model.parameters()]
        carry = step(model, stream.at(i), carry, gradient=TruncatedBPTT(3), clips=[], optimizer=rule).carry
        changed = any(not torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
        assert changed == bool(stream.at(i).counted())


def test_parts_of_the_files_own(tmp_path, capsys):
    x, y, _, _ = arrays()
    parts = {"x_train": x[:20], "y_train": y[:20], "x_valid": x[20:30], "y_valid": y[20:30], "x_test": x[30:], "y_test": y[30:]}
    np.savez(tmp_path / "parts.npz", **parts)
    assert train("parts.npz", "--steps", "1", "--out", "run") in (0, 1)
    assert "sequences: train 20  valid 10  test 10" in capsys.readouterr().out
    parts["y_test"] = parts["y_test"] + 1
    np.savez(tmp_path / "unseen.npz", **parts)
    assert train("unseen.npz", "--steps", "1", "--out", "other") == 2
    assert "has the label '3', which training has not seen; expected one of 0, 1, 2" in capsys.readouterr().err
    assert main(["evaluate", "run", "--data", "x.csv"]) == 2
    assert main(["train", "labels", "x.csv", "--time", "t", "--from", "run", "--out", "child"]) == 2
    assert not (tmp_path / "child").exists()


def spoilt(tmp_path):
    """Files that no run may come of."""
    x, y, lengths, _ = arrays()
    np.savez(tmp_path / "one.npz", x=x, y=np.zeros(N, int))
    np.savez(tmp_path / "long.npz", x=x, y=y, lengths=lengths + 1)
    np.savez(tmp_path / "inf.npz", x=np.where(x == x.max(), np.inf, x), y=y)
    np.savez(tmp_path / "none.npz", a=x, b=y)
    np.savez(tmp_path / "shape.npz", x=x, y=y[:5])
    np.savez(tmp_path / "half.npz", x=x, y=y + 0.5)
    with (tmp_path / "object.npz").open("wb") as file:
        np.savez(file, x=x, y=np.array([None] * N, dtype=object))
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("id,t,a,label\n")
    (tmp_path / "words.csv").write_text("id,a,label\n1,0.5,x\n1,high,x\n2,1,y\n")
    (tmp_path / "gap.csv").write_text("id,a,label\n1,0.5,x\n1,,x\n2,1,y\n")
    (tmp_path / "twice.csv").write_text("id,t,a,label\n1,1,0.5,x\n1,1,2,x\n2,1,1,y\n")
    (tmp_path / "wide.csv").write_text(",".join(f"c{i}" for i in range(10_000)) + "\n" + ",".join(["1"] * 10_000) + "\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("one.npz", "one.npz has the label '0' alone in its training part; expected two classes at least"),
        ("long.npz", "array 'lengths' has the length 13; expected 1 to 12, the steps that the arrays have"),
        ("inf.npz", "has inf at ["),
        ("none.npz", "none.npz has the arrays a, b; expected features called x, X, inputs, features. Name them with --features"),
        ("none.npz --features a --label z", "--label is 'z', which is no array of none.npz; expected one of a, b"),
        ("shape.npz", "array 'y' has shape (5,); expected one label a sequence, (40,), or a step, (40, 12)"),
        ("half.npz", "array 'y' has the label 0.5; expected whole numbers or words"),
        ("object.npz", "array 'y', has Python objects in it, which are read by pickle and could run code"),
        ("empty.csv", "empty.csv cannot be read as a table"),
        ("header.csv", "header.csv has no row of values"),
        ("words.csv", "words.csv, row 3: 'a' is 'high'; expected a number"),
        ("gap.csv", "gap.csv, row 3: 'a' is missing; expected a number in every row"),
        ("twice.csv --time t", "twice.csv, row 3: 't' is a time that the sequence '1' has twice"),
        ("wide.csv", "--id is 'id', which is no column of wide.csv; expected one of c0, c1"),
        ("x.csv --label kind", "--label is 'kind', which is no column of x.csv; expected one of id, t, a, b, label"),
        ("x.csv --features a,c", "--features is 'c', which is no column of x.csv"),
        ("tags.npz --each sequence", "has the labels"),
        ("x.npz --each step", "has one label a sequence; expected one a step for --each step"),
        ("x.npz --bidirectional --bptt 5", "the longest sequence has 12; expected whole ones"),
        ("x.npz --bidirectional --gradient rtrl", "expected full or truncated: the others go through time step by step"),
        ("x.npz --bidirectional --gradient truncated:k1=4,k2=8", "windows of 4 steps, and the longest sequence has 12"),
        ("x.npz --bidirectional --watch-flow 5", "--watch-flow is given with --bidirectional; expected one direction"),
        ("x.npz --class-weights heavy", "--class-weights is 'heavy'"),
        ("x.npz --split 0.5,0.2,0.2", "--split is 0.5,0.2,0.2"),
        ("", "no files are named; expected one"),
    ],
)
def test_one_sentence_and_nothing_is_left(tmp_path, capsys, words, sentence):
    spoilt(tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    assert main(["train", "labels", *words.split(), *SIZES, "--out", "runs/x"]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.slow
def test_ten_thousand_columns_and_labels_that_cannot_be(tmp_path, capsys):
    names = [f"c{i}" for i in range(10_000)]
    lines = [",".join(["id", *names, "label"])]
    lines += [",".join([str(i // 2), *(["0.5"] * 9_999), str(i // 2 % 2), "ab"[i // 2 % 2]]) for i in range(16)]
    (tmp_path / "wide.csv").write_text("\n".join(lines) + "\n")
    assert train("wide.csv", "--steps", "2", "--out", "run") in (0, 1)
    assert "10,000 features" in capsys.readouterr().out
    assert main(["predict", "run", "--data", "x.csv"]) == 2
    assert "--features is 'c0', which is no column of x.csv" in capsys.readouterr().err
    trained = tt.load("run")
    with pytest.raises(InputError, match=r"data is float64 \(2, 3, 4\); expected sequences \(N, T, 10000\)"):
        trained.predict(np.ones((2, 3, 4)))
    with pytest.raises(InputError, match="part is 'all'"):
        trained.evaluate("all")
    assert not (tmp_path / "labels.csv").exists()


def test_both_directions_only_where_the_future_may_be_read(tmp_path, capsys):
    (tmp_path / "book.txt").write_text("a book " * 100)
    for verb in (["text", "book.txt"], ["series", "x.csv", "--target", "a"]):
        assert main(["train", *verb, "--bidirectional", "--out", "x"]) == 2
        assert "must not have read it, and the second direction has. Leave it out." in capsys.readouterr().err


@pytest.mark.slow
def test_what_goes_one_way_refuses_a_run_that_goes_both(capsys):
    assert train("x.npz", "--bidirectional", "--steps", "2", "--out", "run") in (0, 1)
    capsys.readouterr()
    for verb in (["flow", "run"], ["export", "run"], ["compare-gradients", "run", "--methods", "rtrl", "full"]):
        code = main(verb)
        captured = capsys.readouterr()
        assert code == (0 if verb[0] == "compare-gradients" else 2), captured
        assert "one direction" in captured.err + captured.out, captured
    with pytest.raises(NotImplementedError, match="bidirectional"):
        tt.load("run").stream()


def test_one_face(tmp_path):
    """A stream gives, step after step in the file's units, what the whole sequence gives; the verbs that make no sense say so."""
    assert train("x.npz", "--steps", "3", "--out", "run") in (0, 1)
    trained, (x, _, lengths, _) = tt.load("run"), arrays()
    stream = trained.stream()
    for row in x[3, : lengths[3]]:
        p = stream.push(row)
    eps = float(torch.finfo(torch.float32).eps)  # as above, for one layer
    np.testing.assert_allclose(p, trained.predict(x[3:4, : lengths[3]]).probabilities[0], atol=4 * eps * 12 * (6 + 2) * 2)
    with pytest.raises(InputError, match=r"is a classifier of sequences, which has no forecast\(\)"):
        trained.forecast()
