"""The edits that ``make mutate`` tries: many, the same each time, each a valid program that differs from the one before."""

import ast
import importlib.util
import sys
from collections import Counter
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def edits():
    spec = importlib.util.spec_from_file_location("edits", TREE / "tools" / "edits.py")
    module = sys.modules["edits"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_there_are_many_and_the_same_each_time(edits):
    python, cpp = edits.candidates(TREE, 0, "")
    assert len(python) > 500
    assert len(cpp) > 100
    assert (python, cpp) == edits.candidates(TREE, 0, "")
    assert python != edits.candidates(TREE, 1, "")[0]
    assert {edit.file for edit in edits.candidates(TREE, 0, "_gru")[0]} == {"src/throughtime/cells/_gru.py"}


def test_they_are_spread_over_the_files_and_begin_with_equations(edits):
    python, cpp = edits.candidates(TREE, 0, "")
    for some in (python[:60], cpp[:10]):
        assert max(Counter(edit.file for edit in some).values()) <= 2
    first = next(edit for edit in python if edit.file.endswith("cells/_lstm.py"))
    assert edits.EQUATION.search(first.before.encode())


@pytest.mark.slow
def test_each_is_a_program_of_another_meaning(edits):
    python, _ = edits.candidates(TREE, 0, "")
    for edit in python[::25]:
        lines = (TREE / edit.file).read_text().split("\n")
        before = ast.dump(ast.parse("\n".join(lines)))
        assert lines[edit.line - 1] == edit.before
        lines[edit.line - 1] = edit.after
        assert ast.dump(ast.parse("\n".join(lines))) != before, edit
