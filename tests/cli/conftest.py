"""The command as it meets a person: a folder of one's own, float32, a wide terminal."""

import pytest
import torch
from _pictures import no_pictures as no_pictures, pictures as pictures
from _shell import SMALL, TEXT

from throughtime.cli import main


@pytest.fixture
def as_in_a_shell(tmp_path, monkeypatch):
    """In an empty folder with book.txt; threads as they were afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    torch.set_default_dtype(torch.float32)
    (tmp_path / "book.txt").write_text(TEXT)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One run that all of a file's tests of reading may share."""
    torch.set_default_dtype(torch.float32)
    folder = tmp_path_factory.mktemp("trained")
    (folder / "book.txt").write_text(TEXT)
    assert main(["train", "text", str(folder / "book.txt"), *SMALL, "--out", str(folder / "run")]) == 0
    return folder / "run"
