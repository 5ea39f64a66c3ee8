"""The cells of a program in percent format."""

import sys

from _documents import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import percent

PROGRAM = """# %% [markdown]
# # A title
#
#     indented

# %%
x = 1


def f():
    # a comment stays
    return x


# %% [markdown]
# Words.
"""


def test_words_and_code_take_turns():
    assert list(percent.cells(PROGRAM)) == [
        (True, "# A title\n\n    indented"),
        (False, "x = 1\n\n\ndef f():\n    # a comment stays\n    return x"),
        (True, "Words."),
    ]


def test_a_program_becomes_a_page(tmp_path):
    (tmp_path / "p.py").write_text(PROGRAM)
    page = percent.page(tmp_path / "p.py", "printed\n")
    assert page.startswith("# A title\n")
    assert "```python\nx = 1\n" in page
    assert "## What it prints\n\n```text\nprinted\n```" in page
