"""A whole file becomes a hostile one: byte by byte, or by rules of its own kind that leave the rest of it believable."""

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from throughtime.training._files import read_tensors, write_tensors

from . import _odd

Way = Callable[[bytes, random.Random], bytes]


def spoil(path: Path, rng: random.Random) -> None:
    """Spoil a file where it lies."""
    if path.suffix == ".safetensors" and rng.random() < 0.4:
        return spoil_tensors(path, rng)
    content, of_its_kind = path.read_bytes(), WAYS.get(path.suffix)
    way = of_its_kind if of_its_kind and rng.random() < 0.75 else any_bytes
    path.write_bytes(way(content, rng))
    return None


def any_bytes(content: bytes, rng: random.Random) -> bytes:
    at, n = rng.randrange(len(content) + 1), rng.choice([1, 2, 8, 100])
    match rng.randrange(7):
        case 0:
            return content[:at]
        case 1:
            return content[:at] + rng.randbytes(n) + content[at + n :]
        case 2:
            return content[:at] + rng.randbytes(n) + content[at:]
        case 3:
            return content[:at] + content[at + n :]
        case 4:
            return content + content[:at]
        case 5:
            return b"" if rng.random() < 0.3 else bytes([rng.choice([0, 0xFF])]) * len(content)
        case _:
            marks = [b"\xef\xbb\xbf", b"\xff\xfe", b"\0" * 9, b'"', b"\r", b"\x1f\x8b\x08", b"PK\3\4", b"PAR1"]
            return content[:at] + rng.choice(marks) + content[at:]


# ---- JSON


def json_text(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.05:
        return b"[" * 200_000
    return json.dumps(_odd.tree(json.loads(content), rng)).encode("utf-8", "surrogatepass")


def json_lines(content: bytes, rng: random.Random) -> bytes:
    return b"\n".join(json_text(line, rng) if rng.random() < 0.2 else line for line in content.splitlines())


# ---- Tensors


def header(content: bytes, rng: random.Random) -> bytes:
    """A safetensors file whose header says something else, with a length that fits it, or not."""
    length = int.from_bytes(content[:8], "little")
    told = json.dumps(_odd.tree(json.loads(content[8 : 8 + length]), rng)).encode("utf-8", "surrogatepass")
    size = rng.choice([len(told)] * 9 + [2**62])
    return size.to_bytes(8, "little") + told + content[8 + length :]


def spoil_tensors(path: Path, rng: random.Random) -> None:
    """Another tensor, or another word, under a checksum that fits."""
    tensors, about = read_tensors(path)
    name = rng.choice(sorted(tensors))
    match rng.randrange(4):
        case 0:
            about = _odd.tree(about, rng)
        case 1:
            del tensors[name]
        case 2:
            tensors[_odd.word(rng).replace("\0", "") or "x"] = other_tensor(tensors[name], rng)
        case _:
            tensors[name] = other_tensor(tensors[name], rng)
    write_tensors(path, tensors, about)


def other_tensor(t: torch.Tensor, rng: random.Random) -> torch.Tensor:
    shapes = [torch.zeros(0), torch.zeros(1 + rng.randrange(50), dtype=t.dtype), t[None], t.flatten()]
    kinds = [t.to(torch.float16), t.to(torch.int64)]
    numbers = [torch.full_like(t, x) for x in (float("nan"), 1e38, -1e38)] if t.is_floating_point() else []
    return rng.choice(shapes + kinds + numbers).clone()  # tensors that share memory cannot be saved


# ---- Tables


def cells(content: bytes, rng: random.Random) -> bytes:
    """A CSV file with cells, lines or columns that are others."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    for _ in range(rng.choice([1, 1, 3, 100])):
        row = rng.choice(rows) if rng.random() < 0.8 else rows[0]
        if row:
            others = [str(_odd.number(rng)), _odd.word(rng), "", "NA", '"', "1,2", "2024-13-45", "1e400", "a" * 9999]
            row[rng.randrange(len(row))] = rng.choice(others)
    match rng.randrange(8):
        case 0:
            rng.shuffle(rows)
        case 1:
            rows += rows[: rng.randrange(len(rows))]
        case 2:
            rows = rows[: rng.randrange(4)]
        case 3:
            rows = [row[:-1] for row in rows]
        case 4:
            rows = [[*row, *row] for row in rows]
    return "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass")


def parquet(content: bytes, rng: random.Random) -> bytes:
    """A whole Parquet file of the same table with another column."""
    import polars as pl

    whole = pl.read_parquet(io.BytesIO(content))
    name, n = rng.choice(whole.columns), len(whole)
    others = [
        pl.Series(name, [None] * n),
        pl.Series(name, [float("nan")] * n),
        pl.Series(name, [[1.0, 2.0]] * n),
        pl.Series(name, [b"\xff\xfe"] * n),
        pl.Series(name, [{"a": 1}] * n),
        pl.Series(name, ["2024-01-01"] * n).cast(pl.Categorical),
        pl.Series(name, [2**63] * n, dtype=pl.UInt64),
        pl.Series(_odd.word(rng), [1.5] * n),
    ]
    spoilt = whole.with_columns(rng.choice(others)) if rng.random() < 0.8 else rng.choice([whole.drop(name), whole.head(rng.randrange(3))])
    spoilt.write_parquet(written := io.BytesIO())
    return written.getvalue()


# ---- Arrays


def npy_header(content: bytes, rng: random.Random) -> bytes:
    """An npy file whose header tells another shape or type."""
    size = int.from_bytes(content[8:10], "little")
    told = content[10 : 10 + size].decode()
    shape, kind = told.split("'shape': ")[1].split("}")[0].rstrip(", "), told.split("'descr': ")[1].split(",")[0]
    axes = [rng.choice([-1, 0, 1, 3, 5, 2**20, 2**31, 2**40, 2**62]) for _ in range(rng.choice([0, 1, 2, 3, 3, 3, 40]))]
    others = [
        (shape, repr(tuple(axes))),
        (kind, rng.choice(["'|O'", "'<f8'", "'<U9'", "'<c16'", "[('a', '<f8')]", "'|V8'", "'<M8[s]'", "'zz'"])),
    ]
    told = told.replace(*rng.choice(others)).rstrip() + "\n"
    return content[:8] + struct.pack("<H", len(told)) + told.encode() + content[10 + size :]


def npz(content: bytes, rng: random.Random) -> bytes:
    """An npz file with an array whose header lies, that is packed a thousandfold, or that has another name."""
    with zipfile.ZipFile(io.BytesIO(content)) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    name = rng.choice(sorted(members))
    match rng.randrange(5):
        case 0:
            members[rng.choice(["../../escaped.npy", "/escaped.npy", "zzz.npy", "y", ""]) or "x"] = members.pop(name)
        case 1:
            members[name] += bytes(10_000_000)
        case 2:
            members[name] = any_bytes(members[name], rng)
        case _:
            members[name] = npy_header(members[name], rng)
    with zipfile.ZipFile(written := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as spoilt:
        for name, inside in members.items():
            spoilt.writestr(name, inside)
    return written.getvalue()


WAYS: dict[str, Way] = {
    ".json": json_text,
    ".jsonl": json_lines,
    ".safetensors": header,
    ".csv": cells,
    ".parquet": parquet,
    ".npy": npy_header,
    ".npz": npz,
}
