"""Activations: a torch function made into one, under its name of today and its name of before."""

import pytest
import torch

from throughtime import cells


def test_the_old_name_of_from_callable_still_serves():
    with pytest.warns(DeprecationWarning, match="OfCallable is now called FromCallable"):
        old = cells.OfCallable
    assert old is cells.FromCallable
    assert old(torch.sin) == cells.FromCallable(torch.sin)


def test_a_name_that_never_was_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'Softplus'"):
        _ = cells.Softplus
