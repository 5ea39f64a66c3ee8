"""A run folder: what is refused, and that what stands is never lost. No file of a stranger can run code or fill the memory."""

import gc
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from throughtime import InputError
from throughtime.data import Chars, Section, Tokens
from throughtime.training import RunFolder, train
from throughtime.training._files import write_tensors, write_text
from throughtime.training._trained import start_of

CPU = torch.device("cpu")


def edit(run: RunFolder, change) -> None:
    about = json.loads((run.path / "config.json").read_text())
    change(about)
    (run.path / "config.json").write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "names no run format; expected what throughtime wrote"),
        ('{"format": 99, "throughtime": "7.0", "run": {}}', "has run format 99, written by throughtime 7.0; expected format 1, which"),
        ('{"format": 1, "run": 5}', "cannot be used: Expected `object`, got `int`"),
        (
            '{"format": 1, "run": {"text": {}, "network": {"hidden": "wide"}, "optimiser": {}, "loop": {}}}',
            r"Expected `int`, got `str`.*hidden",
        ),
        ('{"format": 1, "run": {"text": {"files": [5]}, "network": {}, "optimiser": {}, "loop": {}}}', "expected a path, got 5|Expected"),
        (
            '{"format": 1, "run": {"text": {}, "network": {"cell": "import os"}, "optimiser": {}, "loop": {}}}',
            "`cell` is 'import os'; expected one of",
        ),
    ],
)
def test_a_configuration_that_is_none(tmp_path, text, words):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=words):
        RunFolder.open(tmp_path)


def test_a_run_from_before_there_were_tasks_is_about_a_text(make_run):
    run = make_run()
    edit(run, lambda about: about.pop("task"))
    assert RunFolder.open(run.path).config == run.config


def test_a_task_that_is_none(make_run):
    run = make_run()
    edit(run, lambda about: about.update(task="cooking"))
    with pytest.raises(InputError, match=r"names the task 'cooking'; expected text"):
        RunFolder.open(run.path)


def test_no_run_folder(tmp_path):
    with pytest.raises(InputError, match=r"is no run folder: it has no config\.json; expected one that 'throughtime train' made"):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"hidden": 999_999}, r"weight \S+ has shape \(.*\); expected \(.*999999.*\), as config.json and the vocabulary say"),
        ({"hidden": 10**9}, "`hidden` is 1000000000; expected an integer from 1 to 1,000,000"),
        ({"hidden": -1}, "`hidden` is -1"),
        ({"layers": 10**9}, "`layers` is 1000000000; expected an integer from 1 to 1,000"),
        ({"layers": 2}, "has shape none; expected"),
        ({"embedding": 10**9}, "`embedding` is 1000000000"),
        ({"dropout": float("nan")}, "`dropout` is nan"),
        ({"cell": "lstm"}, "has shape"),
    ],
)
def test_sizes_of_a_stranger_allocate_nothing(make_run, network, words):
    run = make_run()
    edit(run, lambda about: about["run"]["network"].update(network))
    opened = RunFolder.open(run.path)
    with pytest.raises(InputError, match=words):
        opened.load_model(opened.task(), CPU)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a stranger's file ran code",))


@pytest.mark.parametrize("kind", ["cut", "empty", "pickle", "torch", "missing"])
def test_weights_that_are_no_safetensors(make_run, kind):
    run = make_run()
    whole = run.model.read_bytes()
    match kind:
        case "cut":
            run.model.write_bytes(whole[:-3])
        case "empty":
            run.model.write_bytes(b"")
        case "pickle":
            run.model.write_bytes(pickle.dumps(Trap()))
        case "torch":
            torch.save({"w": torch.zeros(3)}, run.model)
        case "missing":
            run.model.unlink()
    with pytest.raises(InputError, match=r"model\.safetensors (cannot be read as safetensors|is not there)"):
        run.load_model(run.task(), CPU)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("head.bias"), r"weight head.bias has shape none; expected \(\d+,\)"),
        (lambda w: w.update(extra=torch.zeros(2)), r"weight extra has shape \(2,\); expected none"),
        (lambda w: w.update({"head.bias": w["head.bias"][:-1].clone()}), r"weight head.bias has shape"),
        (lambda w: w.update({"head.bias": w["head.bias"].long()}), r"weight head.bias is torch.int64 .*; expected torch.float32"),
        (lambda w: w.update({"head.bias": w["head.bias"].to(torch.float8_e4m3fn)}), r"weight head.bias is torch.float8_e4m3fn"),
        (lambda w: w["head.bias"].fill_(torch.nan), "weight head.bias has numbers that are not finite"),
    ],
)
def test_weights_of_another_model(make_run, change, words):
    run = make_run()
    weights = load_file(run.model)
    change(weights)
    save_file(weights, run.model)
    with pytest.raises(InputError, match=words):
        run.load_model(run.task(), CPU)


@pytest.mark.parametrize(
    ("corpus", "words"),
    [
        ({}, "names other sections than train, valid and test"),
        ({"sections": {"train": {}}}, "names other sections than train, valid and test"),
        ({"sections": {"train": {}, "valid": {}, "test": {}, "../../etc/passwd": {}}}, "names other sections"),
        (
            {"sections": {"train": {"tokens": "many"}, "valid": {}, "test": {}}},
            "expected the numbers of its tokens, characters and unknowns",
        ),
        (
            {"sections": {"train": {"tokens": 9, "characters": 9, "unknown": 0}, "valid": {}, "test": {}}},
            "bytes; expected 9 for 9 tokens: it was cut short",
        ),
    ],
)
def test_a_corpus_of_a_stranger(make_run, corpus, words):
    run = make_run()
    (run.path / "tokens" / "corpus.json").write_text(json.dumps(corpus))
    with pytest.raises(InputError, match=words):
        run.task().corpus()


def test_ids_that_were_cut_short_or_lost(make_run):
    run = make_run()
    path = run.path / "tokens" / "train.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        InputError, match=r"train\.bin has [\d,]+ bytes; expected [\d,]+ for [\d,]+ tokens: it was cut short or changed\. Train again"
    ):
        run.task().corpus()
    path.unlink()
    with pytest.raises(InputError, match=r"train\.bin cannot be read \(No such file"):
        run.task().corpus()


def test_ids_beyond_the_vocabulary(make_run, console):
    run = make_run()
    path = run.path / "tokens" / "train.bin"
    path.write_bytes(b"\xff" * path.stat().st_size)
    with pytest.raises(InputError, match=r"has indices from 255 to 255; expected 0 to \d+, the vocabulary's"):
        train(run, console=console)


def test_a_document_that_begins_beyond_the_vocabulary(tmp_path):
    file = tmp_path / "ids"
    file.write_bytes(b"\xc8" * 9)
    section = Section(Tokens(file, np.dtype("<u1")), 9, 0, borders=np.array([0, 9]))
    with pytest.raises(InputError, match="begins with symbol 200; expected less than 4, the vocabulary's size"):
        start_of(Chars("abc"), section, torch.Generator())


def test_a_vocabulary_of_another_size(make_run):
    run = make_run()
    (run.path / "vocabulary.json").write_text('{"level": "byte"}')
    with pytest.raises(InputError, match=r"has shape .*; expected \(256"):
        run.load_model(run.task(), CPU)


def test_what_stands_is_not_written_over(make_run, tmp_path):
    run = make_run()
    with pytest.raises(InputError, match=r"is there already; expected a new folder\. Go on with `resume`, replace it with `overwrite`"):
        RunFolder.refuse_existing(run.path, overwrite=False)
    RunFolder.refuse_existing(run.path, overwrite=True)
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match="is no run folder; expected a run, the only thing that `overwrite` replaces"):
        RunFolder.refuse_existing(tmp_path / "photos", overwrite=True)


def test_a_new_run_takes_the_place_of_an_old_one_as_a_whole(make_run, tmp_path):
    old, new = make_run("old"), make_run("new", network={"hidden": 9})
    made = RunFolder.create(old.path, new)
    assert made.path == old.path
    assert RunFolder.open(old.path).config.network.hidden == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "text.txt"]


def test_a_new_run_that_cannot_take_its_place_leaves_the_old_one(make_run, tmp_path):
    old = make_run("old")
    with pytest.raises(FileNotFoundError):
        RunFolder.create(old.path, RunFolder(tmp_path / "nowhere", old.config))
    assert RunFolder.open(old.path).config == old.config
    assert not list(tmp_path.glob(".*"))


def test_a_link_to_a_run_is_followed(make_run, tmp_path):
    old, new = make_run("old"), make_run("new", network={"hidden": 9})
    (tmp_path / "link").symlink_to(old.path)
    RunFolder.create(tmp_path / "link", new)
    assert (tmp_path / "link").is_symlink()
    assert RunFolder.open(old.path).config.network.hidden == 9


@pytest.mark.parametrize(
    "write", [lambda p: write_text(p, "x" * 100), lambda p: write_tensors(p, {"w": torch.zeros(9)}, {})], ids=["text", "tensors"]
)
def test_a_file_is_whole_or_as_it_was(tmp_path, write, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    write(path)
    assert path.read_bytes() != b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_saving_leaves_nothing_for_the_garbage_collector(tmp_path):
    """It comes round too seldom in a process with as many objects as torch has: memory grew by a megabyte an hour."""
    tensors = {"w": torch.randn(4, 7), "n": torch.arange(9), "b": torch.ones(3) > 0, "empty": torch.zeros(3, 0), "one": torch.tensor(2.0)}
    gc.collect()
    gc.disable()
    try:
        write_tensors(tmp_path / "x", tensors, {"step": 3})
        assert gc.collect() == 0
    finally:
        gc.enable()
    assert all(torch.equal(read, tensors[name]) for name, read in load_file(tmp_path / "x").items())
