"""What a shell completes, in the shells themselves."""

import shutil
import subprocess

import pytest

from throughtime.cli import _verbs, main
from throughtime.cli._app import VERBS
from throughtime.cli._flags import entries_of


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_verb_and_flag_is_there_and_the_shell_reads_it(shell, capsys, tmp_path):
    text = script(shell, capsys)
    for verb, row in VERBS.items():
        assert verb[0] in text
        for entry in entries_of(getattr(_verbs, row.flags)):
            if not entry.flag.positional:
                assert (f" -l {entry.name.removeprefix('--')} " if shell == "fish" else f"{entry.name} ") in text
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(text)
    subprocess.run([shell, "-n", tmp_path / "script"], check=True, timeout=600)


COMPLETED = [
    ("throughtime ev", "evaluate"),
    ("throughtime train ", " ".join(verb[1] for verb in VERBS if verb[0] == "train")),
    ("throughtime train text --op", "--optimizer"),
    ("throughtime train text --cell l", "lstm lem"),
    ("throughtime train text --hidden 3 --cell g", "gru gru-reset-before"),
    ("throughtime sample run --top", "--top-k"),
    ("throughtime completion ", "bash zsh fish"),
    ("throughtime compare-gradients --task c", "copy"),
    ("throughtime sample ", ""),  # files, which are the shell's own
]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_what_bash_offers(capsys):
    code = script("bash", capsys) + "".join(
        f"\nread -ra COMP_WORDS <<< '{typed}'; [[ '{typed}' == *' ' ]] && COMP_WORDS+=('')\n"
        'COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _throughtime; echo "${COMPREPLY[*]}"'
        for typed, _ in COMPLETED
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout.splitlines() == [offered for _, offered in COMPLETED]


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(("typed", "offered"), [row for row in COMPLETED if row[1]])
def test_what_fish_offers(typed, offered, capsys):
    code = script("fish", capsys) + f"\ncomplete -C '{typed}'"
    done = subprocess.run(["fish", "--no-config", "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert {line.split("\t")[0] for line in done.stdout.splitlines()} == set(offered.split())
