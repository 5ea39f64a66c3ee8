"""The examples in the documents: Python runs, block after block in one namespace for a page; commands have verbs and flags that exist."""

import ast
import re
import shlex

import pytest
import torch
from _documents import blocks, name, with_blocks

from throughtime.cli import _flags, _verbs
from throughtime.cli._app import VERBS


@pytest.mark.parametrize("document", with_blocks("python"), ids=name)
def test_python_runs(document, tmp_path, monkeypatch, shapes_unchecked):
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    namespace = {"__name__": "__main__"}
    for block in blocks(document, "python"):
        code = compile("\n" * (block.line - 1) + block.text, document, "exec")
        if block.runs:
            exec(code, namespace)


def commands(document) -> list[list[str]]:
    """What is typed after ``throughtime``, without comments."""
    text = "\n".join(block.text for block in blocks(document, "shell")).replace("\\\n", " ")
    inside = re.findall(r"\$\(([^)]*)\)", text)
    lines = [*inside, *re.sub(r"\$\([^)]*\)", "WORD", text).splitlines()]
    typed = [shlex.split(line, comments=True) for line in lines]
    return [words[1:] for words in typed if words[:1] == ["throughtime"]]


@pytest.mark.parametrize("document", with_blocks("shell"), ids=name)
def test_commands_exist(document):
    for words in commands(document):
        verb = next((verb for verb in VERBS if tuple(words[: len(verb)]) == verb), None)
        assert verb is not None, words
        options = getattr(_verbs, VERBS[verb].flags)
        _flags.parse(options, words[len(verb) :], "throughtime", "")


def test_a_block_that_does_not_run_is_python_all_the_same():
    for document in with_blocks("python"):
        for block in blocks(document, "python"):
            ast.parse(block.text)
