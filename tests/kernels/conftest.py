"""The kernels' tests say which type they mean; what they do not say is float32, as a user's default is."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _default_float32():
    torch.set_default_dtype(torch.float32)
