"""pytorch/examples' language model: ``python main.py``."""

from pathlib import Path

from ._program import Program


def command(sources: Path, folder: Path) -> list[str]:
    lines = (sources / "word_language_model/data/wikitext-2/valid.txt").read_text("utf-8").splitlines(keepends=True)
    for name, part in {"train": lines[:1000], "valid": lines[1000:1100], "test": lines[1100:1200]}.items():
        (folder / f"{name}.txt").write_text("".join(part), "utf-8")
    script = sources / "word_language_model/main.py"
    return [str(script), "--data", str(folder), "--save", str(folder / "model.pt"), "--epochs", "1"]


PROGRAM = Program(
    title="word_language_model, LSTM 200, two layers, dropout",
    repository="pytorch/examples",
    commit="77f55b9",
    packages=(),
    differs="1 epoch of 40, on the first 1,000 lines of its validation text",
    command=command,
)
