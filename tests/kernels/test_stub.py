"""The committed stub is what the extension says of itself."""

import subprocess
import sys
from pathlib import Path

import pytest

import throughtime

pytest.importorskip("throughtime._kernels", reason="the extension is not built here")


def test_the_stub_is_up_to_date(tmp_path):
    written = tmp_path / "_kernels.pyi"
    subprocess.run([sys.executable, "-m", "nanobind.stubgen", "-q", "-m", "throughtime._kernels", "-o", written], check=True)
    committed = Path(throughtime.__file__).with_name("_kernels.pyi")
    assert written.read_text() == committed.read_text(), (
        f"write it again: python -m nanobind.stubgen -m throughtime._kernels -o {committed}"
    )
