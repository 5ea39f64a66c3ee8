"""THROUGHTIME_ARCH: what it forces, and what is said where it names nothing that can serve."""

import os
import subprocess
import sys

import pytest
from _tables import first

from throughtime import _kernels

FOREIGN = "neon" if "avx2" in _kernels.architectures() or "neon" not in _kernels.architectures() else "avx2"
USE = """
import torch, throughtime as tt
from throughtime.kernels import linear_cross_entropy
def layer(): tt.GRU(3, 4)(torch.zeros(2, 1, 3))
def head(): linear_cross_entropy(*torch.eye(2, 3)[None].repeat(2, 1, 1), None, torch.tensor([0, 1]))
for use in (layer, head):
    try:
        use()
    except tt.InputError as error:
        print(error)
tt.set_kernels("plain")
layer()
"""


def run(arch: str, *command: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *command], env=os.environ | {"THROUGHTIME_ARCH": arch}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("arch", _kernels.architectures())
def test_a_known_one_is_forced(arch):
    assert run(arch, "-c", "from throughtime import _kernels; print(_kernels.architecture())").stdout.strip() == arch


NAMES_NOTHING = [
    ("vax", "THROUGHTIME_ARCH is 'vax'; expected one of 'baseline'"),
    ("AVX2", "THROUGHTIME_ARCH is 'AVX2'; expected one of 'baseline'"),
    (FOREIGN, f"THROUGHTIME_ARCH is '{FOREIGN}', which this machine cannot run; expected one of 'baseline'"),
]


@pytest.mark.parametrize(("arch", "said"), first(NAMES_NOTHING[:1], NAMES_NOTHING))
@pytest.mark.slow
def test_what_cannot_serve_is_an_error_at_the_first_use(arch, said):
    """Of a layer and of a head, and never the plain loop in its place; the import and the plain loop themselves go on."""
    done = run(arch, "-c", USE)
    assert done.returncode == 0, done.stderr
    of_layer, of_head = done.stdout.strip().splitlines()
    assert of_layer == of_head
    assert of_layer.startswith(said)
    assert of_layer.endswith("which are those that this machine runs. Set it to one of them, or unset it to have the best.")


@pytest.mark.slow
def test_the_command_says_it_in_a_sentence():
    done = run("vax", "-m", "throughtime", "info")
    assert done.returncode == 2
    assert "THROUGHTIME_ARCH is 'vax'" in done.stderr
    assert "Traceback" not in done.stderr
