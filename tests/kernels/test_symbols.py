"""No architecture's file shares a symbol with another's: else the linker may serve AVX-512 code to a machine without it."""

import os
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

BUILD = Path(os.environ.get("THROUGHTIME_BUILD", Path(__file__).parents[2] / "build"))


@pytest.mark.slow
def test_no_shared_symbols():
    objects = [o for o in BUILD.rglob("*.o") if "/kernels_" in str(o)]
    if not objects or not shutil.which("nm"):
        pytest.skip("needs a build tree (pip install --no-build-isolation -e . leaves one) and nm")
    tree = max(objects, key=lambda o: o.stat().st_mtime).parts[:-4]
    owners = defaultdict(set)
    for o in (o for o in objects if o.parts[:-4] == tree):
        for line in subprocess.run(
            ["nm", "--defined-only", "--extern-only", o], capture_output=True, text=True, check=True
        ).stdout.splitlines():
            owners[line.split()[-1]].add(o.stem)
    assert len(owners) > 100
    tags = ("Baseline", "Avx2", "Avx512", "Neon")
    assert not {s for s, files in owners.items() if len(files) > 1}
    assert not {s for s in owners if sum(tag in s for tag in tags) != 1}
