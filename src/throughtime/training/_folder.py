"""A run folder: what is in it, and how it is made, opened and refused.

config.json         every choice                    tokens/         the text as ids, memory-mapped
vocabulary.json     the symbols                     metrics.jsonl   a line a report
model.safetensors   the best weights so far         events.*        the same for TensorBoard
state.safetensors   all that --resume needs         curves.png      the same as a picture
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import final

import msgspec
import torch

from .._check import InputError
from .._version import __version__
from ..data import AbstractVocabulary, Corpus, read_json, read_vocabulary
from ..models import LanguageModel
from ._files import load_parameters, read_tensors, write_text
from ._options import TextRun

FORMAT = 1


@final
class RunFolder:
    """Paths of a run, and its configuration."""

    def __init__(self, path: Path, config: TextRun) -> None:
        self.path, self.config = path, config

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def state(self) -> Path:
        return self.path / "state.safetensors"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """A folder that stands.

        Raises:
            InputError: no run is there, or one of another format.
        """
        if not (path / "config.json").is_file():
            raise InputError(f"{path} is no run folder: it has no config.json; expected one that 'throughtime train' made. Check the path.")
        about = read_json(path / "config.json")
        match about:
            case {"format": int(found)} if found != FORMAT:
                wrote = about.get("throughtime", "?") if isinstance(about, dict) else "?"
                raise InputError(
                    f"{path} has run format {found}, written by throughtime {wrote}; this is throughtime {__version__}, which reads "
                    f"format {FORMAT}. "
                    "Use the version that wrote it, or train again."
                )
            case {"format": int(), "run": run}:
                try:
                    return cls(path, msgspec.convert(run, TextRun, dec_hook=_path))
                except msgspec.ValidationError as error:
                    raise InputError(f"{path / 'config.json'} cannot be used: {error}. Restore the file, or train again.") from None
        raise InputError(f"{path / 'config.json'} is not what throughtime wrote: it names no format. Restore the file, or train again.")

    @classmethod
    def refuse_existing(cls, path: Path, *, overwrite: bool) -> None:
        """Nothing that stands is written over unless it is a run and was asked to be."""
        if not path.exists():
            return
        if not overwrite:
            raise InputError(
                f"{path} is there already; expected a new folder. Go on with --resume, replace it with --overwrite, or name another "
                f"with --out."
            )
        if not (path / "config.json").is_file():
            raise InputError(f"{path} is there and is no run folder; --overwrite replaces only runs. Name another folder with --out.")

    @classmethod
    def create(cls, path: Path, config: TextRun, prepared: Path) -> "RunFolder":
        """Turn a prepared folder (tokens inside) into the run at ``path``, in place of one that stands there."""
        folder = cls(prepared, config)
        folder.write_config()
        if path.exists():
            old = path.with_name(f".{path.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
            prepared.rename(path)
            shutil.rmtree(old)
        else:
            prepared.rename(path)
        return cls(path, config)

    def write_config(self) -> None:
        """Write ``config.json``."""
        about = {
            "format": FORMAT,
            "throughtime": __version__,
            "torch": torch.__version__,
            "run": msgspec.to_builtins(asdict(self.config), enc_hook=str),
        }
        write_text(self.path / "config.json", json.dumps(about, indent=1))

    def corpus(self) -> Corpus:
        """The text's ids."""
        return Corpus.open(self.path)

    def vocabulary(self) -> AbstractVocabulary:
        """The text's symbols."""
        return read_vocabulary(self.path / "vocabulary.json")

    def load_model(self, vocabulary: AbstractVocabulary, device: torch.device) -> LanguageModel:
        """The best weights so far, in evaluation mode."""
        tensors, _ = read_tensors(self.model)
        with torch.device("meta"):  # sizes are a stranger's word until the file has been seen to have them
            _refuse_other_shapes(self.model, self.config.network.build(vocabulary.size), tensors)
        model = self.config.network.build(vocabulary.size)
        load_parameters(self.model, model, tensors)
        return model.to(device).eval()


def _path(wanted: type, value: object) -> Path:
    """JSON has no paths: a string stands for one."""
    if wanted is not Path or not isinstance(value, str):
        raise ValueError(f"expected a path, got {value!r}")
    return Path(value)


def _refuse_other_shapes(path: Path, model: LanguageModel, tensors: dict[str, torch.Tensor]) -> None:
    wanted = {name: tuple(p.shape) for name, p in model.named_parameters()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    if wanted != found:
        name = next(n for n in sorted(wanted.keys() | found.keys()) if wanted.get(n) != found.get(n))
        raise InputError(
            f"{path}: weight {name} has shape {found.get(name)}; expected {wanted.get(name)}, as config.json and the vocabulary "
            f"say. Restore the folder."
        )
