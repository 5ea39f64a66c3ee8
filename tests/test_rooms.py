"""The walk of the house: a room imports only from rooms before it, and data from the two shared modules alone."""

import re
from pathlib import Path

import throughtime

HOUSE = Path(throughtime.__file__).parent
WALK = ["data", "cells", "kernels", "nn", "models", "gradients", "flow", "training", "cli"]
SHARED = {"_shapes", "_check", "_errors", "_numbers", "_bar", "_lazy", "_torch_private", "_version", "_kernels"}


def test_rooms_import_only_backwards():
    for file in HOUSE.glob("*/**/*.py"):
        room, *inner = file.relative_to(HOUSE).parts[:-1]
        out = r"\.\." + r"\." * len(inner)  # what leads out of the room
        doors = re.findall(rf"^\s*from {out}(\w*)(?:\.\w+)* import (\w+)", file.read_text(), re.MULTILINE)
        for target in {package or name for package, name in doors} - SHARED:
            assert room != "data", f"{file} imports {target}"
            assert WALK.index(target) < WALK.index(room), f"{file} imports {target}"


def test_the_extension_has_one_importer():
    importers = [f for f in HOUSE.rglob("*.py") if re.search(r"\b_kernels\b", f.read_text())]
    assert {f.parent.name for f in importers} <= {"kernels"}
