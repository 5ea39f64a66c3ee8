"""A text on its way to ids: in a stream, the same wherever the chunks end, and refused with the byte that is wrong."""

import gzip
import io
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from throughtime import InputError
from throughtime.data import Chars, Corpus, TextSource, Words, _sources, encode_file

TEXT = "the cat sat on the mat\nand the dög, a naïve 日本 dog, sat on it 🎉\n\n" * 40
LEVELS = ["char", "byte", "word", "bpe"]


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8", newline="")
    return path


def ids(corpus: Corpus, name: str) -> list[int]:
    tokens = corpus.sections[name].tokens
    return tokens.read(0, len(tokens)).tolist()


def build(source: TextSource, folder: Path, level: str) -> Corpus:
    return Corpus.build(source, folder, level=level, vocabulary_size=300 if level == "bpe" else None)  # type: ignore[arg-type]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_chunk_borders_change_nothing(file, tmp_path, monkeypatch, level, chunk):
    source = TextSource((file,), split=(0.7, 0.1, 0.2))
    whole = build(source, tmp_path / "whole", level)
    monkeypatch.setattr(_sources, "_CHUNK", chunk)
    cut = build(source, tmp_path / "cut", level)
    assert cut.vocabulary.to_json() == whole.vocabulary.to_json()
    for name in ("train", "valid", "test"):
        assert ids(cut, name) == ids(whole, name)
        assert cut.sections[name].characters == whole.sections[name].characters


@pytest.mark.parametrize("level", LEVELS)
def test_the_sections_joined_are_the_text(file, tmp_path, level):
    corpus = build(TextSource((file,), split=(0.7, 0.1, 0.2)), tmp_path / "run", level)
    texts = [corpus.vocabulary.decode(ids(corpus, name)) for name in ("train", "valid", "test")]
    spelled = "".join(texts)
    assert spelled == TEXT if level != "word" else spelled.split() == TEXT.split()
    assert sum(section.characters for section in corpus.sections.values()) == len(TEXT)
    if level in ("word", "bpe"):  # cut at line ends
        assert all(text.endswith("\n") for text in texts)


def test_shares_in_characters(file, tmp_path):
    corpus = build(TextSource((file,), split=(0.7, 0.1, 0.2)), tmp_path / "run", "char")
    N = len(TEXT)
    assert [corpus.sections[name].characters for name in ("train", "valid", "test")] == [
        round(0.7 * N),
        round(0.8 * N) - round(0.7 * N),
        N - round(0.8 * N),
    ]


@pytest.mark.parametrize("level", LEVELS)
def test_a_share_of_nothing_is_nothing(file, tmp_path, level):
    corpus = build(TextSource((file,), split=(0.8, 0.0, 0.2)), tmp_path / "run", level)
    assert corpus.sections["valid"].characters == 0
    assert corpus.sections["test"].characters > 0


def test_texts_of_their_own(file, tmp_path):
    for name in ("valid", "test"):
        (tmp_path / name).write_text(f"the {name} Ω")
    both = build(TextSource((file,), tmp_path / "valid", tmp_path / "test"), tmp_path / "both", "char")
    assert both.sections["train"].characters == len(TEXT)
    assert both.vocabulary.decode(ids(both, "valid")) == "the va<unk>id <unk>"
    assert (both.sections["valid"].unknown, both.sections["test"].unknown) == (2, 1)
    only_test = build(TextSource((file,), test=tmp_path / "test", split=(0.9, 0.05, 0.05)), tmp_path / "only", "char")
    assert only_test.sections["train"].characters + only_test.sections["valid"].characters == len(TEXT)
    only_valid = build(TextSource((file,), tmp_path / "valid"), tmp_path / "onlyv", "char")
    assert only_valid.sections["test"].characters == 0


def test_the_vocabulary_is_the_training_texts(tmp_path):
    (tmp_path / "t").write_text("ab" * 45 + "z" * 10)
    corpus = build(TextSource((tmp_path / "t",), split=(0.9, 0.05, 0.05)), tmp_path / "run", "char")
    assert corpus.vocabulary.to_json() == {"level": "char", "characters": "ab"}
    assert corpus.sections["valid"].unknown == 5


def test_files_end_to_end_without_their_byte_order_marks(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfab")
    (tmp_path / "b").write_bytes(b"\xef\xbb\xbfcd")
    corpus = build(TextSource((tmp_path / "a", tmp_path / "b"), split=(1.0, 0.0, 0.0)), tmp_path / "run", "char")
    assert corpus.vocabulary.decode(ids(corpus, "train")) == "abcd"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-8"])
def test_encodings(tmp_path, encoding):
    (tmp_path / "t").write_text("naïve café\n" * 20, encoding=encoding)
    corpus = build(TextSource((tmp_path / "t",), split=(1.0, 0.0, 0.0), encoding=encoding), tmp_path / "run", "char")
    assert corpus.vocabulary.decode(ids(corpus, "train")) == "naïve café\n" * 20


@given(st.integers(0, 40), st.integers(1, 9))
def test_the_byte_that_is_wrong_is_named(at, chunk):
    import tempfile

    raw = bytearray("aé" * 20, "utf-8")
    good = bytes(raw)
    while at < len(raw) and raw[at] & 0xC0 == 0x80:
        at += 1  # between characters
    raw[at:at] = b"\xff"
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(_sources, "_CHUNK", chunk)
        path = Path(folder) / "t"
        path.write_bytes(raw)
        with pytest.raises(
            InputError, match=rf"is not utf-8: byte {at} is 0xff \(invalid start byte\); expected utf-8 throughout\. .*`encoding`"
        ):
            build(TextSource((path,)), Path(folder) / "run", "char")
        path.write_bytes(good + b"\xe6\x97")
        with pytest.raises(InputError, match=rf"byte {len(good)} is 0xe6 \(unexpected end of data\)"):
            build(TextSource((path,)), Path(folder) / "run", "char")


@pytest.mark.parametrize(
    ("raw", "encoding", "words"),
    [
        (None, "utf-8", r"t cannot be read \(No such file or directory\); expected a text file"),
        (b"", "utf-8", r"t is empty; expected text"),
        (b"aaaa", "utf-8", "only the symbol 'a' at level char"),
        (b"a +2AA- b", "utf-7", r"has half a character, '\\ud800', read as utf-7"),
    ],
)
def test_texts_that_are_none(tmp_path, raw, encoding, words):
    if raw is not None:
        (tmp_path / "t").write_bytes(raw)
    with pytest.raises(InputError, match=words):
        build(TextSource((tmp_path / "t",), encoding=encoding), tmp_path / "run", "char")


def test_what_is_no_text(file, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.gz").write_bytes(gzip.compress(TEXT.encode())[:-9])
    (tmp_path / "valid").write_bytes(b"ab\n\xff")
    with pytest.raises(InputError, match="is a folder without a file; expected text files in it"):
        Corpus.build(TextSource((tmp_path / "empty",)), tmp_path / "run")
    with pytest.raises(InputError, match="/dev/null is a device; expected a file, a folder, a pipe, or - for the standard input"):
        Corpus.build(TextSource((Path("/dev/null"),)), tmp_path / "run")
    with pytest.raises(InputError, match=r"cut.gz cannot be unpacked \(.*\); expected whole gzip"):
        Corpus.build(TextSource((tmp_path / "cut.gz",)), tmp_path / "run")
    with pytest.raises(InputError, match="valid is not utf-8: byte 3"):
        build(TextSource((file,), tmp_path / "valid"), tmp_path / "run", "char")


@pytest.mark.parametrize("encoding", ["klingon", "hex", "undefined", "a\0b", ""])
def test_encodings_that_are_none(encoding):
    with pytest.raises(InputError, match="is no text encoding of Python; expected one such as utf-8 or latin-1"):
        TextSource((Path("t"),), encoding=encoding)


@pytest.mark.parametrize("split", [(0.5, 0.5, 0.5), (0.0, 0.5, 0.5), (float("nan"), 0.0, 1.0), (1.5, -0.5, 0.0)])
def test_shares_that_are_none(split):
    with pytest.raises(InputError, match="expected three shares for training, validation and test"):
        TextSource((Path("t"),), split=split)


def test_options_of_other_levels(file, tmp_path):
    with pytest.raises(InputError, match="do not apply at level byte, which always has 256 symbols"):
        Corpus.build(TextSource((file,)), tmp_path / "run", level="byte", vocabulary_size=9)


def test_another_text_under_a_vocabulary_that_stands(file, tmp_path):
    section = encode_file(file, Chars("theca "), tmp_path / "ids.bin")
    assert section.characters == len(TEXT)
    assert section.unknown == sum(character not in "theca " for character in TEXT)


MEASURE = """
import resource, sys
from pathlib import Path
from throughtime.data import Corpus, TextSource, TokenStream
path, level = Path(sys.argv[1]), sys.argv[2]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
corpus = Corpus.build(TextSource((path,)), path.parent / "run", level=level)
for batch in TokenStream(corpus.sections["train"].tokens, batch_size=8, window=int(sys.argv[3])):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def growth(tmp_path: Path, mebibytes: int, level: str, window: int) -> float:
    """MiB that reading a text of this size takes on top of the imports."""
    words = np.random.default_rng(0).integers(0, 20_000, 1 << 17)
    block = " ".join(f"w{i}\n" if i % 9 == 0 else f"w{i}" for i in words)[: 1 << 19]
    with (tmp_path / "big.txt").open("w") as file:
        for _ in range(2 * mebibytes):
            file.write(block)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path / "big.txt", level, str(window)], capture_output=True, text=True, check=True
    )
    return int(done.stdout) / 1024


@pytest.mark.slow
def test_memory_does_not_grow_with_the_text(tmp_path):
    assert growth(tmp_path, 48, "byte", 1 << 16) < 40


@pytest.mark.slow
@pytest.mark.parametrize("level", ["char", "word"])
def test_memory_does_not_grow_with_a_large_text(tmp_path, level):
    assert growth(tmp_path, 600, level, 1 << 12) < 150


def the_same(source: TextSource, folder: Path, file: Path) -> bool:
    """Whether a source makes the same corpus as a file, with nothing else left in its folder."""
    one, other = build(source, folder / "one", "char"), build(TextSource((file,)), folder / "other", "char")
    assert sorted(path.name for path in (folder / "one" / "tokens").iterdir()) == ["corpus.json", "test.bin", "train.bin", "valid.bin"]
    return all(ids(one, name) == ids(other, name) for name in ("train", "valid", "test"))


def test_gzip(file, tmp_path):
    (tmp_path / "text.gz").write_bytes(gzip.compress(TEXT.encode()))
    assert the_same(TextSource((tmp_path / "text.gz",)), tmp_path, file)


def test_a_folder_is_its_files_in_order(file, tmp_path):
    (tmp_path / "books" / "b").mkdir(parents=True)
    raw = TEXT.encode()
    (tmp_path / "books" / "a.txt").write_bytes(raw[:1000])
    (tmp_path / "books" / "b" / "c.gz").write_bytes(gzip.compress(raw[1000:]))
    (tmp_path / "books" / ".hidden").write_bytes(b"\xff")
    assert the_same(TextSource((tmp_path / "books",), documents=False), tmp_path, file)


def test_the_standard_input(file, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert the_same(TextSource((Path("-"),)), tmp_path, file)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(InputError, match="the standard input is empty; expected text"):
        Corpus.build(TextSource((Path("-"),)), tmp_path / "run")


def test_a_pipe_that_has_a_name(file, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(TEXT.encode(),))
    writer.start()
    assert the_same(TextSource((tmp_path / "pipe",)), tmp_path, file)
    writer.join()


def test_level_byte_takes_any_bytes(tmp_path):
    raw = bytes(range(256)) * 40
    (tmp_path / "raw").write_bytes(raw)
    corpus = build(TextSource((tmp_path / "raw",), split=(1, 0, 0)), tmp_path / "run", "byte")
    assert bytes(ids(corpus, "train")) == raw
    section = encode_file(tmp_path / "raw", corpus.vocabulary, tmp_path / "again.bin")
    assert section.tokens.read(0, len(raw)).tobytes() == raw


def test_what_is_unknown_is_spelled_out(tmp_path):
    """By hand: 13 letters a … m in the known words; with an end and an escape 15 signs."""
    words = Words(["<eos>", "abc", "defghijklm"])
    (tmp_path / "t").write_text("abc cab zz\nabc\n")  # unknown: cab, 3 letters of 16 signs; zz, 2 letters outside
    section = encode_file(tmp_path / "t", words, tmp_path / "ids.bin")
    letters = len(set("<unk><eos>abcdefghijklm")) + 2
    assert section.unknown == 2
    assert section.unknown_bits == pytest.approx((4 + 3) * math.log2(letters) + 2 * math.log2(0x110000))
    chars = encode_file(tmp_path / "t", Chars("abc \n"), tmp_path / "chars.bin")
    assert (chars.unknown, chars.unknown_bits) == (2, pytest.approx(2 * math.log2(0x110000 - 5)))


def test_subwords_of_a_text_without_spaces_are_short(tmp_path):
    """Merging takes the square of a word's length: a megabyte without a space would take hours."""
    (tmp_path / "dna").write_text("ACGT" * 5000)
    corpus = build(TextSource((tmp_path / "dna",), split=(1, 0, 0)), tmp_path / "run", "bpe")
    symbols = [corpus.vocabulary.decode([i]) for i in range(corpus.vocabulary.size)]
    assert max(map(len, symbols)) == 64
    assert corpus.vocabulary.decode(ids(corpus, "train")) == "ACGT" * 5000
