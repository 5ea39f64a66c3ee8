"""Streams: every token is predicted once, in order, and a window of the file is read as the array is."""

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from throughtime import InputError
from throughtime.data import Batch, Tokens, TokenStream

SIZES = st.tuples(st.integers(2, 200), st.integers(1, 9), st.integers(1, 17))


def predicted(stream: TokenStream) -> list[list[tuple[int, int]]]:
    """(input, target) pairs of each stream, masked ones left out."""
    pairs: list[list[tuple[int, int]]] = [[] for _ in range(stream.batch_size)]
    for batch in stream:
        for t in range(batch.T):
            for b in range(batch.B):
                if batch.mask is None or batch.mask[t, b]:
                    pairs[b].append((int(batch.inputs[t, b]), int(batch.targets[t, b])))
    return pairs


@given(SIZES)
def test_every_token_is_predicted_once_and_in_order(sizes):
    N, B, window = sizes
    if N <= B:
        return
    pairs = predicted(TokenStream(torch.arange(N), batch_size=B, window=window))
    S = (N - 1) // B
    assert pairs == [[(i, i + 1) for i in range(b * S, (b + 1) * S)] for b in range(B)]
    assert N - 1 - B * S < B  # what is left over at the end is less than a step of every stream


@given(SIZES)
def test_whole_reads_the_last_tokens_too(sizes):
    N, B, window = sizes
    pairs = predicted(TokenStream(torch.arange(N), batch_size=min(B, N - 1), window=window, whole=True))
    assert [pair for stream in pairs for pair in stream] == [(i, i + 1) for i in range(N - 1)]


@given(SIZES)
def test_windows_are_as_long_as_asked_but_the_last(sizes):
    N, B, window = sizes
    if N <= B:
        return
    stream = TokenStream(torch.arange(N), batch_size=B, window=window)
    lengths = [batch.T for batch in stream]
    assert len(lengths) == len(stream)
    assert lengths[:-1] == [window] * (len(lengths) - 1)
    assert 1 <= lengths[-1] <= window


def test_only_the_first_window_is_fresh_and_any_window_can_be_asked_for():
    stream = TokenStream(torch.arange(50), batch_size=3, window=4)
    batches = list(stream)
    assert [bool(batch.fresh.all()) for batch in batches] == [True] + [False] * (len(batches) - 1)
    assert torch.equal(stream[2].inputs, batches[2].inputs)
    with pytest.raises(IndexError):
        stream[len(stream)]


@pytest.mark.parametrize("dtype", ["<u1", "<u2", "<u4"])
def test_a_mapped_file_is_read_as_an_array(tmp_path, dtype):
    ids = np.random.default_rng(0).integers(0, 200, 1000).astype(dtype)
    (tmp_path / "ids.bin").write_bytes(ids.tobytes())
    tokens = Tokens(tmp_path / "ids.bin", np.dtype(dtype))
    assert len(tokens) == 1000
    for start, stop in ((0, 1), (17, 900), (990, 1010), (1000, 1001)):
        np.testing.assert_array_equal(tokens.read(start, stop), ids[start:stop])
    for ours, theirs in zip(TokenStream(tokens, batch_size=7, window=9), TokenStream(ids, batch_size=7, window=9), strict=True):
        assert torch.equal(ours.inputs, theirs.inputs)
        assert torch.equal(ours.targets, theirs.targets)


def test_an_empty_file_has_no_tokens(tmp_path):
    (tmp_path / "ids.bin").touch()
    tokens = Tokens(tmp_path / "ids.bin", np.dtype("<u1"))
    assert len(tokens) == 0
    assert tokens.read(0, 5).size == 0


def test_too_few_tokens():
    with pytest.raises(InputError, match=r"there are 4 tokens for 4 streams; expected at least 5\. Lower the batch size or give a longer"):
        TokenStream(torch.arange(4), batch_size=4, window=2)


@pytest.mark.parametrize(("name", "kwargs"), [("batch size", {"batch_size": 0, "window": 2}), ("window", {"batch_size": 2, "window": -1})])
def test_sizes_that_mean_nothing(name, kwargs):
    with pytest.raises(InputError, match=rf"{name} is -?\d; expected an integer from 1"):
        TokenStream(torch.arange(40), **kwargs)


class TestBatch:
    def test_steps_of_a_batch(self):
        batch = Batch(
            torch.arange(12).view(6, 2),
            torch.arange(12).view(6, 2),
            weights=torch.arange(12.0).view(6, 2),
            fresh=torch.tensor([True, False]),
        )
        assert batch.steps(0, 2).fresh.tolist() == [True, False]
        later = batch.steps(2, 5)
        assert later.fresh is None
        assert later.inputs.tolist() == [[4, 5], [6, 7], [8, 9]]
        assert later.weights.tolist() == [[4, 5], [6, 7], [8, 9]]

    def test_counted_are_real_steps_with_a_weight(self):
        ids = torch.zeros(3, 2, dtype=torch.long)
        mask = torch.tensor([[True, True], [True, False], [False, False]])
        weights = torch.tensor([[0.0, 1.0], [2.0, 3.0], [1.0, 1.0]])
        assert Batch(ids, ids).counted() == 6
        assert Batch(ids, ids, mask=mask).counted() == 3
        assert Batch(ids, ids, weights=weights).counted() == 5
        assert Batch(ids, ids, mask=mask, weights=weights).counted() == 2

    @pytest.mark.usefixtures("shapes_unchecked")
    def test_companions_of_other_shapes(self):
        ids = torch.zeros(3, 2, dtype=torch.long)
        with pytest.raises(InputError, match=r"mask has shape \(2, 3\); expected \(T, B\) = \(3, 2\)"):
            Batch(ids, ids, mask=torch.ones(2, 3, dtype=torch.bool))
        with pytest.raises(InputError, match=r"fresh has shape \(3,\); expected \(B,\) = \(2,\)"):
            Batch(ids, ids, fresh=torch.ones(3, dtype=torch.bool))
        with pytest.raises(InputError, match="Time comes first"):
            Batch(ids, ids.T)
