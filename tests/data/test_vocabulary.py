"""Vocabularies: text to ids and back, as JSON and from a stranger's."""

import json

import numpy as np
import pytest
from hypothesis import given, strategies as st

from throughtime import InputError
from throughtime.data import Bytes, Chars, Subwords, Words, vocabulary_from_json
from throughtime.data.vocabulary._blocks import whole_words
from throughtime.data.vocabulary._words import _forget_rare

TEXT = "the cat sat on the mat\nand the dog, a naïve 日本 dog, sat on it 🎉\n" * 5
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
VOCABULARIES = [Bytes.count([TEXT]), Chars.count([TEXT]), Words.count([TEXT]), Subwords.count([TEXT], most=300)]
LEVELS = [vocabulary.level for vocabulary in VOCABULARIES]


@given(TEXTS)
def test_bytes_spell_any_text(text):
    vocabulary = Bytes()
    assert vocabulary.decode(vocabulary.encode(text)) == text


@given(TEXTS)
def test_subwords_spell_any_text(text):
    vocabulary = VOCABULARIES[3]
    assert vocabulary.decode(vocabulary.encode(text).tolist()) == text


@given(TEXTS)
def test_characters_spell_what_they_have_seen(text):
    vocabulary = Chars("".join(sorted(set(text))))
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert 0 not in vocabulary.encode(text)


@given(st.lists(st.sampled_from(["the", "cat", "sat", "\n"])))
def test_words_spell_words(words):
    vocabulary = Words.count([TEXT])
    text = " ".join(words).replace(" \n", "\n").replace("\n ", "\n")
    assert vocabulary.decode(vocabulary.encode(text)) == text


@given(st.lists(st.integers(0, 255)))
def test_any_ids_of_bytes_and_subwords_have_a_text(ids):
    """A model in its first steps writes bytes that are no UTF-8."""
    assert Bytes().decode(ids) == bytes(ids).decode("utf-8", "replace")
    assert isinstance(VOCABULARIES[3].decode(ids), str)


@pytest.mark.parametrize("vocabulary", VOCABULARIES, ids=LEVELS)
def test_json_and_back(vocabulary):
    again = vocabulary_from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert type(again) is type(vocabulary)
    assert again.size == vocabulary.size
    np.testing.assert_array_equal(again.encode(TEXT), vocabulary.encode(TEXT))
    assert vocabulary.encode(TEXT).max() < vocabulary.size


@pytest.mark.parametrize("vocabulary", VOCABULARIES, ids=LEVELS)
def test_pieces_come_one_by_one(vocabulary):
    def endless():
        while True:
            yield from vocabulary.encode(TEXT).tolist()

    pieces = vocabulary.pieces(endless())
    assert "".join(next(pieces) for _ in range(20)).startswith("the")


@pytest.mark.parametrize("vocabulary", [*VOCABULARIES, Chars("ab")], ids=[*LEVELS, "no line end"])
def test_a_start_without_a_prompt(vocabulary):
    [start] = vocabulary.start()
    assert start != vocabulary.unknown
    assert 0 <= start < vocabulary.size


@pytest.mark.parametrize("level", [Words, Subwords])
@given(st.text("ab \n\t.é", max_size=80), st.data())
def test_cutting_a_text_in_blocks_changes_nothing(level, text, data):
    vocabulary = {Words: Words(["<eos>", "a", "b", "ab"]), Subwords: VOCABULARIES[3]}[level]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    blocks = list(vocabulary.blocks(chunks))
    assert "".join(blocks) == text
    assert [i for block in blocks for i in vocabulary.encode(block).tolist()] == vocabulary.encode(text).tolist()


def test_a_text_without_white_space_is_cut_where_memory_asks_for_it():
    assert [len(block) for block in whole_words(["x" * 60] * 5, most=100)] == [120, 120, 60]


def test_commonest_first_and_ties_in_order():
    assert Words.count(["b a a c c d"], most=4).words == ["<unk>", "a", "c", "b"]
    assert Words.count(["b a a c c d"], min_count=2).words == ["<unk>", "a", "c"]
    assert Chars.count(["bbaacd"], most=3).characters == "ab"
    assert Subwords.count([TEXT], most=280).size == 280


def test_too_many_different_words_are_thinned_out():
    from collections import Counter

    counts = Counter({"a": 5, "b": 1, "c": 2, "d": 1})
    assert _forget_rare(counts, 1, most=4) == 1
    assert _forget_rare(counts, 1, most=3) == 2
    assert counts == {"a": 5, "c": 2}


@pytest.mark.parametrize("level", [Bytes, Chars, Words, Subwords])
def test_one_symbol_is_no_vocabulary(level):
    with pytest.raises(InputError, match=r"the training text has only the symbol 'a+' at level \w+; expected at least two to tell apart"):
        level.count(["aaaa"])
    with pytest.raises(InputError, match="has no symbol at all"):
        level.count([""])


def test_subwords_need_their_bytes():
    with pytest.raises(InputError, match=r"`vocabulary_size` is 256 at level bpe; expected 257 \(256 bytes and one pair\) to 1,000,000"):
        Subwords.count([TEXT], most=256)


def test_nothing_left():
    with pytest.raises(InputError, match="no symbol is left of 3 with `min_count=9`"):
        Chars.count(["aabbc"], min_count=9)


@pytest.mark.parametrize(
    ("prompt", "words"), [("", "the prompt is empty"), ("a\udcff", "is not UTF-8"), ("caz", "the prompt has 'z', which the model")]
)
def test_prompts_that_cannot_be_read(prompt, words):
    with pytest.raises(InputError, match=words):
        Chars("abc").encode_prompt(prompt)


def test_an_unknown_word_in_a_prompt():
    with pytest.raises(
        InputError, match=r"the prompt has 'zebra', which the model's vocabulary of 3 symbols does not know; .* 'the' 'cat'"
    ):
        Words(["the", "cat"]).encode_prompt("the zebra")


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"level": "emoji"},
        {"level": "char", "characters": 5},
        {"level": "char", "characters": "aa"},
        {"level": "char", "characters": "a\ud800"},
        {"level": "word", "words": ["a", 5]},
        {"level": "word", "words": ["a", "a"]},
        {"level": "bpe", "tokenizer": {"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}},
        {"level": "bpe", "tokenizer": {}},
    ],
)
def test_a_strangers_vocabulary(value):
    with pytest.raises(InputError, match=r"expected one (of level byte|that throughtime wrote)"):
        vocabulary_from_json(value)


@pytest.mark.parametrize(("size", "dtype"), [(2, "u1"), (255, "u1"), (256, "u2"), (70_000, "u4")])
def test_the_smallest_type_that_holds_every_id(size, dtype):
    vocabulary = Chars("".join(chr(i) for i in range(0x10000, 0x10000 + size)))
    assert vocabulary.dtype == np.dtype(dtype)
    assert vocabulary.encode(chr(0x10000 + size - 1))[0] == size
