"""A run's picture takes three quarters of a tiny run's time: where a test does not look at it, an empty file stands for it.

A conftest that imports both fixtures does so for its folder.
"""

import pytest


@pytest.fixture
def pictures():
    """The test looks at curves.png."""


@pytest.fixture(autouse=True)
def no_pictures(request, monkeypatch):
    """``draw_curves`` without drawing, unless the test asks for ``pictures``."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr("throughtime.training._loop.draw_curves", lambda folder, clip: folder.curves.touch())
