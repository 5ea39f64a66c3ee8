"""Data sets by name, from a server of our own: what is fetched, kept, refused, and said without a network."""

import dataclasses
import gzip
import hashlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from throughtime import InputError, data
from throughtime.cli import _verbs, main
from throughtime.data import NAMED, NamedFile, fetch

pytest.importorskip("pooch")
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pooch leaves its sockets to the collector
TEXT = b"a text that a server sends\n" * 5000


class Server(ThreadingHTTPServer):
    """Sends the files that it has been given, and counts the questions."""

    files: dict[str, bytes]
    asked: int


@pytest.fixture
def server():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            served.asked += 1
            body = served.files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    served = Server(("127.0.0.1", 0), Handler)
    served.files, served.asked = {}, 0
    thread = threading.Thread(target=served.serve_forever, args=(0.01,))
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("THROUGHTIME_DATA", str(tmp_path / "kept"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "kept"


def serve(server, monkeypatch, name, files):
    """Let a data set come from the server instead of its own address."""
    server.files |= {f"/{file}": body for file, body in files.items()}
    mine = tuple(
        NamedFile(f"http://127.0.0.1:{server.server_port}/{file}", hashlib.sha256(body).hexdigest()) for file, body in files.items()
    )
    monkeypatch.setitem(NAMED, name, dataclasses.replace(NAMED[name], files=mine))


def test_a_data_set_is_fetched_once_and_kept(server, monkeypatch, folder):
    serve(server, monkeypatch, "tiny-shakespeare", {"input.txt": TEXT})
    told = []
    path = fetch("tiny-shakespeare", told=lambda done, total: told.append((done, total)))
    assert path == folder / "tiny-shakespeare" / "input.txt"
    assert path.read_bytes() == TEXT
    assert told[-1] == (len(TEXT), len(TEXT))
    assert fetch("tiny-shakespeare") == path
    assert server.asked == 1


def test_a_file_that_was_changed_is_fetched_anew(server, monkeypatch):
    serve(server, monkeypatch, "etth1", {"ETTh1.csv": TEXT})
    path = fetch("etth1")
    path.write_bytes(TEXT[:-1])
    assert fetch("etth1").read_bytes() == TEXT


def test_another_file_at_the_address_is_refused_and_not_kept(server, monkeypatch, folder):
    serve(server, monkeypatch, "etth1", {"ETTh1.csv": TEXT})
    server.files["/ETTh1.csv"] = TEXT + b"!"
    with pytest.raises(
        InputError, match=r"sent another file than the one that etth1 is known by; expected the SHA-256 \w{64}\. Put the right"
    ):
        fetch("etth1")
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_without_a_network_the_sentence_says_which_file_to_put_where(server, monkeypatch, folder):
    serve(server, monkeypatch, "nottingham", {"Nottingham.mat": TEXT})
    server.files.clear()  # 404, as good as no server for whoever asks
    path = folder / "nottingham" / "Nottingham.mat"
    with pytest.raises(InputError) as error:
        fetch("nottingham")
    assert str(error.value) == (
        f"nottingham cannot be downloaded from http://127.0.0.1:{server.server_port}/Nottingham.mat (HTTPError); expected a network, or the "
        f"file. Download it elsewhere, and put it at {path}."
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"another file")
    with pytest.raises(InputError, match="is not the file that nottingham is known by, which cannot be downloaded"):
        fetch("nottingham")
    path.write_bytes(TEXT)
    monkeypatch.setattr(data._named, "_pooch", lambda: pytest.fail("what lies there needs no download"))
    assert fetch("nottingham") == path


def test_the_digits_become_rows_of_pixels(server, monkeypatch):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (5, 28, 28), dtype=np.uint8), rng.integers(0, 10, 5, dtype=np.uint8)
    parts = {"train": slice(0, 3), "t10k": slice(3, 5)}
    files = {}
    for part, rows in parts.items():
        n = (rows.stop - rows.start).to_bytes(4, "big")
        side = (28).to_bytes(4, "big")
        files[f"{part}-images-idx3-ubyte.gz"] = gzip.compress(b"\0\0\x08\x03" + n + side + side + images[rows].tobytes())
        files[f"{part}-labels-idx1-ubyte.gz"] = gzip.compress(b"\0\0\x08\x01" + n + labels[rows].tobytes())
    serve(server, monkeypatch, "sequential-mnist", files)
    with np.load(fetch("sequential-mnist")) as found:
        for part, rows in (("train", slice(0, 3)), ("test", slice(3, 5))):
            assert np.array_equal(found[f"x_{part}"], images[rows].reshape(-1, 784, 1))
            assert np.array_equal(found[f"y_{part}"], labels[rows])
    assert server.asked == 4
    fetch("sequential-mnist")
    assert server.asked == 4


def test_an_unknown_name_and_a_missing_package(monkeypatch):
    with pytest.raises(InputError, match="'shakespear' is no data set that throughtime knows by name; expected perhaps 'tiny-shakespeare'"):
        fetch("shakespear")
    with pytest.raises(InputError, match="expected one of tiny-shakespeare, jsb-chorales, nottingham, etth1, sunspots, sequential-mnist"):
        fetch("xyz")
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(InputError, match=r"pip install 'throughtime\[data\]'"):
        fetch("etth1")


def test_every_data_set_says_whose_it_is():
    for name, named in NAMED.items():
        assert name == named.name
        assert named.licence
        assert named.citation
        assert named.files
        for file in named.files:
            assert file.url.startswith("https://")
            assert len(bytes.fromhex(file.sha256)) == 32


def test_the_verb_prints_the_path_alone(server, monkeypatch, capsys, folder):
    serve(server, monkeypatch, "tiny-shakespeare", {"input.txt": TEXT})
    assert main(["data"]) == 0
    assert "fetched by: throughtime data tiny-shakespeare" in " ".join(capsys.readouterr().out.split())
    assert main(["data", "tiny-shakespeare"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{folder / 'tiny-shakespeare' / 'input.txt'}\n"
    assert "the text is in the public domain. Cite: Karpathy (2015)" in err
    assert main(["data"]) == 0
    listed = "".join(capsys.readouterr().out.split())
    assert str(folder / "tiny-shakespeare" / "input.txt") in listed
    assert "fetchedby:throughtimedataetth1" in listed
    assert set(_verbs._NAMED) == set(NAMED)


@pytest.mark.parametrize("task", ["text", "series"])
def test_a_name_where_a_file_is_expected_leads_to_the_verb(task, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", task, "etth1", *(["--target", "OT"] if task == "series" else [])]) == 2
    assert capsys.readouterr().err.endswith("Check the path. etth1 is the name of a data set, whose file is $(throughtime data etth1).\n")
