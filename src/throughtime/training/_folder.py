"""A run folder: what is in it, and how it is made, opened and refused.

config.json         every choice                    tokens/         of a text: its ids, memory-mapped
vocabulary.json     of a text: the symbols          metrics.jsonl   a line a report
model.safetensors   the best weights so far         events.*        the same for TensorBoard
state.safetensors   all that --resume needs         curves.png      the same as a picture
state.previous.…    the same, one save before       job             torchrun's name of the work, if it began the run
"""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast, final

import msgspec
import torch

from .. import _check
from .._check import InputError
from .._version import __version__
from ..models import AbstractModel
from ._files import load_parameters, read_tensors, write_text
from ._lock import LOCK, discard, locked
from ._unit import Unit
from .options import AnyRun
from .tasks import TASKS, AbstractTask

FORMAT = 1
_JOB = "job"


@final
class RunFolder:
    """Paths of a run, and its configuration."""

    def __init__(self, path: Path, config: AnyRun) -> None:
        self.path, self.config = path, config

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def state(self) -> Path:
        return self.path / "state.safetensors"

    @property
    def previous_state(self) -> Path:
        return self.path / "state.previous.safetensors"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @property
    def unit(self) -> Unit:
        """How the task's loss is told."""
        return TASKS[self.config.task][1].unit

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """A folder that stands.

        Raises:
            InputError: no run is there, or one of another format.
        """
        if not (path / "config.json").is_file():
            if several := seed_runs(path):
                names = ", ".join(run.name for run in several)
                raise InputError(f"{path} holds a run for each of several seeds ({names}); expected one of them. Name it: {several[0]}")
            raise InputError(f"{path} is no run folder: it has no config.json; expected one that 'throughtime train' made. Check the path.")
        about = _check.json_file(path / "config.json")
        match about:
            case {"format": int(found)} if found != FORMAT:
                wrote = about.get("throughtime", "?") if isinstance(about, dict) else "?"
                raise InputError(
                    f"{path} has run format {found}, written by throughtime {wrote}; expected format {FORMAT}, which throughtime "
                    f"{__version__} reads. Use the version that wrote it, or train again."
                )
            case {"format": int(), "run": run}:
                kind = about.get("task", "text") if isinstance(about, dict) else "text"  # once there were texts alone
                if not isinstance(kind, str) or kind not in TASKS:
                    raise InputError(
                        f"{path / 'config.json'} names the task {kind!r:.40}; expected {' or '.join(TASKS)}. Restore the file, or train "
                        "again."
                    )
                try:
                    config = msgspec.convert(run, TASKS[kind][0], dec_hook=path_of_string)
                    config.network.check_cell()
                    return cls(path, config)
                except (msgspec.ValidationError, InputError) as error:
                    raise InputError(
                        f"{path / 'config.json'} cannot be used: {error}; expected what throughtime wrote. Restore it, or train again."
                    ) from None
        raise InputError(f"{path / 'config.json'} names no run format; expected what throughtime wrote. Restore the file, or train again.")

    @classmethod
    def refuse_existing(cls, path: Path, *, overwrite: bool) -> None:
        """Nothing that stands is written over unless it is a run and was asked to be.

        Raises:
            InputError: something is there, and it may not be replaced.
        """
        if not path.exists():
            return
        if not overwrite:
            raise InputError(
                f"{path} is there already; expected a new folder. Go on with `resume`, replace it with `overwrite`, or name another "
                "one as `out`."
            )
        if not (path / "config.json").is_file() and not seed_runs(path):
            raise InputError(
                f"{path} is there and is no run folder; expected a run, the only thing that `overwrite` replaces. "
                "Name another folder as `out`."
            )

    @classmethod
    @contextmanager
    def preparing(cls, path: Path) -> Iterator[Path]:
        """A new folder beside ``path``, locked, to be filled and then made the run; if it never is, nothing of it is left.

        What a killed process has left there is removed.

        Raises:
            InputError: another process is preparing the same run, or something else stands in the way.
        """
        place = path.resolve()
        made = [folder for folder in place.parents if not folder.exists()]
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = place.with_name(f"{place.name}.preparing")
        _make_or_take(aside)
        try:
            with locked(aside):
                try:
                    yield aside
                except BaseException:
                    discard(aside)
                    raise
        except BaseException:
            with suppress(OSError):  # somebody else has put something there
                for folder in made:
                    folder.rmdir()
            raise

    @classmethod
    def create(cls, path: Path, prepared: "RunFolder") -> "RunFolder":
        """Give a whole run its name, in place of one that stands there.

        Raises:
            InputError: the one that stands there is being trained.
        """
        place = path.resolve()  # what a link leads to
        old = place.with_name(f"{place.name}.old")
        discard(old)
        with locked(place) if place.exists() else nullcontext():
            if place.exists():
                place.rename(old)
            try:
                prepared.path.rename(place)
            except OSError:
                if old.exists():
                    old.rename(place)
                raise
        discard(old)
        return cls(path, prepared.config)

    def write_job(self, job: str) -> None:
        """Note which job of torchrun has begun the run; empty: none."""
        if job:
            write_text(self.path / _JOB, job)

    @classmethod
    def is_of_job(cls, path: Path | None, job: str) -> bool:
        """Whether a run stands there that this job has begun, before its processes were started again."""
        return bool(job) and path is not None and (path / _JOB).is_file() and (path / _JOB).read_text() == job

    def locked(self) -> AbstractContextManager[None]:
        """Nobody else trains this run meanwhile.

        Raises:
            InputError: another process does.
        """
        return locked(self.path)

    def write_config(self) -> None:
        """Write ``config.json``."""
        about = {
            "format": FORMAT,
            "throughtime": __version__,
            "torch": torch.__version__,
            "task": self.config.task,
            "run": msgspec.to_builtins(asdict(cast(Any, self.config)), enc_hook=str),
        }
        write_text(self.path / "config.json", json.dumps(about, indent=1))

    def task(self) -> AbstractTask:
        """What the run is about, opened."""
        return TASKS[self.config.task][1].open(self.path, self.config)

    def load_model(self, task: AbstractTask, device: torch.device) -> AbstractModel:
        """The best weights so far, in evaluation mode."""
        tensors, _ = read_tensors(self.model)
        with torch.device("meta"):  # sizes are a stranger's word until the file has been seen to have them
            _refuse_other_shapes(self.model, task.build_model(self.config.network), tensors, task.sizes_from)
        model = task.build_model(self.config.network)
        load_parameters(self.model, model, tensors)
        return model.to(device).eval()


def seed_runs(path: Path) -> list[Path]:
    """The runs of a folder that has one for each of several seeds, in the order of the seeds; none in any other folder."""
    found = [config.parent for config in path.glob("seed-*/config.json") if config.parent.name.removeprefix("seed-").isdecimal()]
    return sorted(found, key=lambda run: int(run.name.removeprefix("seed-")))


def _make_or_take(aside: Path) -> None:
    """Make the folder; one that a killed process has left is emptied."""
    if (aside / LOCK).is_file():
        with locked(aside):
            discard(aside)
    try:
        aside.mkdir()
    except FileExistsError:
        raise InputError(
            f"{aside} is there already, and stands in the way of the run that is to be prepared there; expected nothing. Remove it, or "
            "name another run as `out`."
        ) from None
    (aside / LOCK).touch()


def path_of_string(wanted: type, value: object) -> Path:
    """JSON has no paths: a string stands for one."""
    if wanted is not Path or not isinstance(value, str):
        raise ValueError(f"expected a path, got {value!r}")
    return Path(value)


def _refuse_other_shapes(path: Path, model: AbstractModel, tensors: dict[str, torch.Tensor], source: str) -> None:
    wanted = {name: tuple(p.shape) for name, p in model.named_parameters()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    if wanted != found:
        name = next(n for n in sorted(wanted.keys() | found.keys()) if wanted.get(n) != found.get(n))
        raise InputError(
            f"{path}: weight {name} has shape {found.get(name, 'none')}; expected {wanted.get(name, 'none')}, as config.json and "
            f"{source} say. Restore the folder."
        )
