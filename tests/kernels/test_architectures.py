"""THROUGHTIME_ARCH: what it forces, and what is said where it names nothing that can serve."""

import os
import subprocess
import sys

import pytest

from throughtime import _kernels

FOREIGN = "neon" if "avx2" in _kernels.architectures() or "neon" not in _kernels.architectures() else "avx2"
LAYER = "import torch, throughtime as tt; tt.GRU(3, 4)(torch.zeros(2, 1, 3))"
HEAD = "import torch; from throughtime.kernels import linear_cross_entropy; linear_cross_entropy(*torch.eye(2, 3)[None].repeat(2, 1, 1), None, torch.tensor([0, 1]))"


def run(arch: str, *command: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *command], env=os.environ | {"THROUGHTIME_ARCH": arch}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("arch", _kernels.architectures())
def test_a_known_one_is_forced(arch):
    assert run(arch, "-c", "from throughtime import _kernels; print(_kernels.architecture())").stdout.strip() == arch


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        ("vax", "THROUGHTIME_ARCH is 'vax'; expected one of 'baseline'"),
        ("AVX2", "THROUGHTIME_ARCH is 'AVX2'; expected one of 'baseline'"),
        (FOREIGN, f"THROUGHTIME_ARCH is '{FOREIGN}', which this machine cannot run; expected one of 'baseline'"),
    ],
)
@pytest.mark.parametrize("use", [LAYER, HEAD], ids=["layer", "head"])
def test_what_cannot_serve_is_an_error_at_the_first_use(use, arch, said):
    """Never the plain loop in its place."""
    last = run(arch, "-c", use).stderr.strip().splitlines()[-1]
    assert last.split(": ", 1)[0].endswith("InputError")
    assert last.split(": ", 1)[1].startswith(said)
    assert last.endswith("which are those that this machine runs. Set it to one of them, or unset it to have the best.")


def test_the_import_and_the_plain_loop_go_on():
    done = run("vax", "-c", LAYER.replace("tt.GRU", "tt.set_kernels('plain'); tt.GRU"))
    assert done.returncode == 0, done.stderr


def test_the_command_says_it_in_a_sentence():
    done = run("vax", "-m", "throughtime", "info")
    assert done.returncode == 2
    assert "THROUGHTIME_ARCH is 'vax'" in done.stderr
    assert "Traceback" not in done.stderr
