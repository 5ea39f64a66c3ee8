"""``throughtime demo``: a minute of training on English text that every Python carries."""

import shlex
import tempfile
from pathlib import Path

from .._console import PLAIN
from ..training import LoopOptions, NetworkOptions, OptimiserOptions, TextOptions, discard
from ._app import Call
from ._outputs import lasting_console
from ._sample import sample
from ._train import prepared, run
from ._verbs import Demo, FolderOptions, Sample, TrainText


def demo(chosen: Demo, call: Call) -> int:
    """The verb."""
    console = lasting_console()
    with tempfile.TemporaryDirectory() as aside:
        text = Path(aside) / "demo.txt"
        text.write_text(reference_text(), encoding="utf-8")
        with call.interruption.cleaned_up(lambda: discard(Path(aside))), prepared(_options(text, chosen), console, call) as folder:
            code = run(folder, console, call)
    if code:
        return code
    console.print("\n[dim]the model goes on from 'The ':[/dim]\n")
    sample(Sample(folder.path, "The ", length=400, temperature=0.7, seed=1), call)
    console.print(
        f"\nmore of it: throughtime sample {shlex.quote(str(folder.path))} --prompt 'The '\ncurves: {folder.curves}",
        **PLAIN,
    )
    return 0


def reference_text() -> str:
    """Python's language reference, topic by topic."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def _options(text: Path, chosen: Demo) -> TrainText:
    return TrainText(
        TextOptions(files=(text,)),
        NetworkOptions(hidden=chosen.hidden, cell="gru"),
        OptimiserOptions(lr=4e-3, schedule="cosine"),
        LoopOptions(minutes=chosen.minutes),
        FolderOptions(chosen.out),
    )
