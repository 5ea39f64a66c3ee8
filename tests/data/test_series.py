"""Series of a table: what is read, cut, standardised and handed on; and what is refused, by row."""

import datetime
import gzip
import zlib

import numpy as np
import pytest

from throughtime import InputError
from throughtime.data import Columns, Origins, SequenceStream, SeriesTable, _sequences, read_series, write_series
from throughtime.data._columns import TableFile


def table(tmp_path, text, name="t.csv"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def rows(n, start=0, step=1, of=lambda i: i % 7 + 0.5 * i):
    at = datetime.datetime(2024, 1, 1)
    return "".join(f"{at + datetime.timedelta(hours=start + step * i)},{of(i)},{i * i}\n" for i in range(n))


HEADER = "when,y,x\n"
PLAIN = Columns(("y",), ("x",), time="when")


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        (HEADER + rows(60), Columns(("z",)), r"--target is 'z', which is no column of .*; expected one of when, y, x"),
        ("Oil,b\n1,2\n", Columns(("oil",)), "perhaps 'Oil'"),
        (HEADER + rows(60), Columns(("y", "y")), "--target names a column twice"),
        (HEADER + rows(60), Columns(("y",), ("y",)), "'y' is a target, a feature or known beforehand more than once"),
        (HEADER + rows(3) + "2024-01-01 03:00,many,9\n" + rows(50, 4), PLAIN, r"row 5: 'y' is 'many'; expected a number"),
        (HEADER + rows(3) + "2024-01-01 03:00,inf,9\n" + rows(50, 4), PLAIN, r"row 5: 'y' is infinite"),
        (HEADER + rows(3) + "noon,3,9\n" + rows(50, 4), PLAIN, r"row 5: 'when' is 'noon'; expected a time such as"),
        (HEADER + rows(3) + ",3,9\n" + rows(50, 4), PLAIN, r"row 5: 'when' is missing; expected a time in every row"),
        (HEADER + rows(3) + rows(50, 2), PLAIN, r"row 5: the time 2024-01-01 02:00:00 comes a second time; .*--group"),
        (HEADER + rows(3, 5) + rows(50), PLAIN, r"row 5: the time 2024-01-01 comes after 2024-01-01 07:00:00; expected rising times"),
        (HEADER + rows(50) + "2024-01-03 03:20,3,9\n", PLAIN, "come in unequal steps; expected equal ones"),
        (HEADER + rows(40) + "2034-01-03 03:00,3,9\n", PLAIN, r"leave out 8[\d,]+ of 8[\d,]+ steps"),
        (HEADER + rows(60, of=lambda i: 4), PLAIN, "the target 'y' is constant in the training part"),
        (HEADER + rows(60, of=lambda i: ""), PLAIN, "column 'y' has no value in the training part"),
        (HEADER + rows(6), PLAIN, r"the table has 6 steps, 4 of them for training; expected 9 at least, --context and --horizon together"),
        (HEADER, PLAIN, "has no row of values"),
        ("", PLAIN, "cannot be read as a table"),
        ("a\n1\n", Columns(("b",)), "expected one of a"),
    ],
)  # fmt: skip
def test_one_sentence(tmp_path, text, columns, words):
    path = table(tmp_path, text)
    with pytest.raises(InputError, match=words):
        write_series(path, tmp_path, columns, split=(0.7, 0.1, 0.2), shortest=9)
    assert not (tmp_path / "series.json").exists()


@pytest.mark.parametrize("kind", ["parquet", "gzip", "zlib"])
def test_what_is_packed_a_hundredfold(tmp_path, monkeypatch, kind):
    """The machine has 80 pages of 4096 bytes; the table needs 100, and its file less than one."""
    pl = pytest.importorskip("polars")
    text = b"y\n" + b"100.5\n" * 70_000  # 103 pages
    path = tmp_path / ("t.parquet" if kind == "parquet" else "t.csv")
    if kind == "parquet":
        pl.DataFrame({"y": np.full(100 * 512, 1.5)}).write_parquet(path)
    else:
        path.write_bytes(gzip.compress(text) if kind == "gzip" else zlib.compress(text))
    assert path.stat().st_size < 4096
    has = lambda pages: monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": pages, "SC_PAGE_SIZE": 4096}.__getitem__)
    has(80)
    with pytest.raises(InputError, match=r"(1 of the columns of .* rows,|what .* has packed) takes about .* this machine has"):
        TableFile(path).numbers(TableFile(path).choose("--target", ["y"]))
    has(103)
    assert len(TableFile(path).numbers(["y"])) == (51_200 if kind == "parquet" else 70_000)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x28\xb5\x2f\xfd\0\0", "is packed by zstd; expected a table that is not packed, or by gzip"),
        (gzip.compress(b"y\n1\n")[:-5], r"cannot be unpacked \(.*\); expected a whole file"),
        (b"\x78\x9cquite another thing", r"cannot be unpacked \(.*\); expected a whole file"),
    ],
    ids=["zstd", "cut short", "no zlib"],  # gzip writes the time: without names each process would have tests of its own
)
def test_what_cannot_be_unpacked(tmp_path, content, words):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=words):
        TableFile(tmp_path / "t.csv").names()


def test_a_name_that_two_columns_have(tmp_path, monkeypatch):
    """polars gives the second one another name, but for some bytes that a fuzzer found."""
    pl = pytest.importorskip("polars")
    file = TableFile(table(tmp_path, "a,b\n1,2\n"))
    with monkeypatch.context() as m:
        m.setattr(pl.Schema, "names", lambda self: ["a", "a"])
        with pytest.raises(InputError, match="has the column 'a' twice; expected each name once"):
            file.names()
    with pytest.raises(InputError, match="cannot be read as a table"):  # whatever polars makes of it
        file.numbers(["a", "a"])


def test_ten_thousand_columns_are_listed_in_short(tmp_path):
    names = [f"c{i}" for i in range(10_000)]
    path = table(tmp_path, ",".join(names) + "\n" + ",".join("1" * 10_000) + "\n")
    with pytest.raises(InputError, match=r"c11 and 9,988 more; perhaps 'c9999'") as error:
        read_series(path, Columns(("c9999x",)))
    assert len(str(error.value)) < 400


def test_scales_are_those_of_the_training_part_alone(tmp_path):
    path = table(tmp_path, HEADER + rows(100, of=lambda i: i if i < 70 else 10_000 + i))
    made = write_series(path, tmp_path, PLAIN, split=(0.7, 0.1, 0.2), shortest=9)
    y = np.arange(70.0)
    assert (made.mean[0, 0], made.scale[0, 0]) == (y.mean(), y.std())
    values = made.open_values()
    given = np.array([*y, *(10_000 + np.arange(70, 100))])
    error = np.abs(values[:, 0].astype(np.float64) * y.std() + y.mean() - given)
    eps = np.finfo(np.float32).eps  # the values are rounded to float32 once, in standard deviations from the mean
    assert (error <= eps * np.abs(given - y.mean())).all()
    assert made.groups[0].bounds("test") == (80, 100)


def test_steps_that_are_left_out_are_missing_values(tmp_path):
    path = table(tmp_path, HEADER + rows(10) + rows(60, 13))
    read = read_series(path, PLAIN)
    assert (read.filled, len(read.values)) == (3, 73)
    assert np.isnan(read.values[10:13]).all()
    assert np.isfinite(np.delete(read.values, [10, 11, 12], 0)).all()
    assert (read.calendar.season, read.calendar.at(read.firsts[0], 25)) == (24, "2024-01-02 01:00:00")


def test_months_are_equal_steps(tmp_path):
    text = "m,y\n" + "".join(f"{2020 + i // 12}-{1 + i % 12:02}-01,{i % 5}\n" for i in range(40))
    read = read_series(table(tmp_path, text), Columns(("y",), time="m"))
    assert (read.calendar.kind, read.calendar.season, read.filled) == ("months", 12, 0)
    assert read.calendar.at(read.firsts[0], 40) == "2023-05-01"


def test_series_are_cut_at_the_same_times(tmp_path):
    """The second series begins 20 steps later: its training part is 20 steps shorter, and ends at the same moment."""
    late = "".join(f"{i},b,{i % 3}\n" for i in range(20, 100))
    text = "t,who,y\n" + "".join(f"{i},a,{i % 5}\n" for i in range(100)) + late
    made = write_series(table(tmp_path, text), tmp_path, Columns(("y",), group="who", time="t"), split=(0.7, 0.1, 0.2), shortest=9)
    a, b = made.groups
    assert (a.valid - a.start, b.valid - b.start) == (70, 50)
    assert made.group("b") == 1
    with pytest.raises(InputError, match="the series 'c' was not among those of training"):
        made.group("c")


def test_no_target_of_training_lies_beyond_its_border(tmp_path):
    """And every step of the part is forecast from exactly as many origins as there are pieces of the horizon that reach it."""
    made = write_series(table(tmp_path, HEADER + rows(200)), tmp_path, PLAIN, split=(0.7, 0.1, 0.2), shortest=9)
    y, K, context = made.open_values()[:, 0], 4, 5
    seen = np.zeros(200, int)
    origins = Origins(made, "train", horizon=K, context=context, pieces=3, relative=False)
    for i, (_, begin, first, _) in enumerate(origins.pieces):
        steps = origins.read(i, 0, int(origins.lengths[i]))
        for n in np.flatnonzero(steps.counts):
            t = begin + n
            assert t >= first
            known = np.isfinite(steps.targets[n])
            np.testing.assert_array_equal(steps.targets[n][known], y[t + 1 : t + 1 + known.sum()])
            seen[t + 1 : t + 1 + known.sum()] += 1
    assert seen[140:].sum() == 0
    first = context - 1
    np.testing.assert_array_equal(seen[:140], [max(0, min(K, t - first)) for t in range(140)])


@pytest.mark.parametrize("relative", [True, False])
def test_windows_are_the_sequence_in_parts(tmp_path, relative):
    """Inputs and targets of a piece do not depend on where the windows cut it."""
    text = HEADER + rows(30) + "2024-01-02 06:00,,7\n" + rows(90, 31)
    made = write_series(table(tmp_path, text), tmp_path, PLAIN, split=(0.7, 0.1, 0.2), shortest=9)
    origins = Origins(made, "train", horizon=3, context=4, pieces=2, relative=relative)
    for i, n in enumerate(origins.lengths):
        whole = origins.read(i, 0, int(n))
        for window in (1, 7):
            parts = [origins.read(i, a, min(a + window, int(n))) for a in range(0, int(n), window)]
            for name in ("inputs", "targets", "counts"):
                np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))
        assert np.isfinite(whole.inputs).all()


def test_changes_are_since_the_row_before_and_since_the_last_known_value(tmp_path):
    """Inputs: v_t − v_{t−1}, 0 with a 1 beside it where that is not known. Targets: y_{t+k} minus the last y that is known at t."""
    text = HEADER + rows(30) + "2024-01-02 06:00,,7\n" + rows(90, 31)
    made = write_series(table(tmp_path, text), tmp_path, PLAIN, split=(0.7, 0.1, 0.2), shortest=9)
    values = made.open_values()
    origins = Origins(made, "train", horizon=2, context=4, pieces=1)
    steps = origins.read(0, 0, int(origins.lengths[0]))
    assert np.isnan(values[30, 0])
    for t in (1, 5, 29, 30, 31, 32):
        change = values[t] - values[t - 1]
        np.testing.assert_array_equal(steps.inputs[t], [*np.nan_to_num(change), *np.isnan(change)])
        last = values[t if t != 30 else 29, 0]
        np.testing.assert_array_equal(steps.targets[t], values[t + 1 : t + 3, 0] - last)
    np.testing.assert_array_equal(steps.inputs[0], np.zeros(4))


def ragged(tmp_path):
    """Three series of other lengths and beginnings, some values and steps missing; b is known beforehand."""
    rng = np.random.default_rng(0)
    text = "t,who,y,x,b\n"
    for name, start, steps in (("p", 0, 60), ("q", 7, 41), ("r", 3, 50)):
        for t in range(start, start + steps):
            y, x, b = ("" if rng.random() < 0.15 else f"{v:.3f}" for v in rng.normal(size=3))
            text += f"{t},{name},{y},{x},{b}\n" if t % 11 or t == start else ""
    columns = Columns(("y",), ("x",), ("b",), group="who", time="t")
    return write_series(table(tmp_path, text), tmp_path, columns, split=(0.6, 0.2, 0.2), shortest=9)


def one_step(made, group, part_end, t, horizon, relative):
    """(1)–(3) and the targets of row t of a series, written down number by number."""
    values, last = made.open_values(), made.open_last()
    nothing, inputs, missing, known, targets = np.float32("nan"), [], [], [], []
    for column in range(3):
        v = values[t, column]
        if relative and column < 2:
            v = v - values[t - 1 if t > group.start else t, column]
        inputs.append(np.float32(0) if np.isnan(v) else v)
        missing.append(np.float32(np.isnan(v)))
    for ahead in range(t + 1, t + 1 + horizon):
        b = values[ahead, 2] if ahead < group.stop else nothing
        known.append(np.float32(0) if np.isnan(b) else b)
        y = values[ahead, 0] if ahead < part_end else nothing
        targets.append(y - last[t, 0] if relative else y)
    return [*inputs, *missing, *known], targets


def test_batches_do_not_depend_on_how_many_windows_are_read_together(tmp_path, monkeypatch):
    """Nor on the step that was read before."""
    origins = Origins(ragged(tmp_path), "train", horizon=3, context=5, pieces=3)
    whole = SequenceStream(origins, batch_size=4, window=2, seed=1)
    assert whole._at_once > 1
    monkeypatch.setattr(_sequences, "_MOST_AT_ONCE", 1)
    single = SequenceStream(origins, batch_size=4, window=2, seed=1)
    for step in (3, 0, 1, 2, 3, len(whole) - 1, len(whole) + 2, 5, 4):
        mine, theirs = whole.at(step), single.at(step)
        for name in ("inputs", "targets", "mask", "fresh"):
            np.testing.assert_array_equal(getattr(mine, name).numpy(), getattr(theirs, name).numpy())


@pytest.mark.parametrize("part", ["train", "valid", "test"])
@pytest.mark.parametrize("relative", [True, False])
def test_batches_are_their_definition(tmp_path, relative, part):
    """Every number of every batch, where streams end in the middle of a window and rows of streams are not full."""
    made, K, B = ragged(tmp_path), 3, 6
    origins = Origins(made, part, horizon=K, context=5, pieces=3, relative=relative)
    stream = SequenceStream(origins, batch_size=B, window=6)
    ended = missing = 0
    for i in range(len(stream)):
        batch, (places, T) = stream[i], stream.layout(i)
        inputs, targets, mask = np.zeros((T, B, 9), np.float32), np.zeros((T, B, K), np.float32), np.zeros((T, B), bool)
        for b, place in enumerate(places):
            g, begin, first, _ = origins.pieces[place.sequence]
            group = made.groups[g]
            for t in range(place.stop - place.start):
                row = begin + place.start + t
                inputs[t, b], targets[t, b] = one_step(made, group, group.bounds(part)[1], row, K, relative)
                mask[t, b] = row >= first and not np.isnan(targets[t, b]).all()
            ended += place.stop - place.start < T
        missing += int(inputs[..., 3:6].sum())
        np.testing.assert_array_equal(batch.inputs.numpy(), inputs)
        np.testing.assert_array_equal(batch.targets.numpy(), targets)
        np.testing.assert_array_equal(batch.mask.numpy(), mask)
    assert bool(ended) == (part != "valid")  # the series are cut at the same times, so that their middle parts are of one length
    assert missing


def test_a_pass_has_every_origin_once_and_the_same_order_for_the_same_seed(tmp_path):
    made = write_series(table(tmp_path, HEADER + rows(300)), tmp_path, PLAIN, split=(0.7, 0.1, 0.2), shortest=9)
    origins = Origins(made, "train", horizon=3, context=4, pieces=7)
    stream = SequenceStream(origins, batch_size=3, window=10, seed=1)
    assert sum(batch.counted() for batch in stream) == len(origins) == 210 - 4
    again = SequenceStream(origins, batch_size=3, window=10, seed=1)
    step = 2 * len(stream) + 3
    assert (stream.at(step).inputs == again.at(step).inputs).all()
    orders = [[stream.layout(e * len(stream) + i) for i in range(len(stream))] for e in range(4)]
    assert any(o != orders[0] for o in orders[1:])


def test_a_stranger_in_the_folder(tmp_path):
    made = write_series(table(tmp_path, HEADER + rows(60)), tmp_path, PLAIN, split=(0.7, 0.1, 0.2), shortest=9)
    np.save(tmp_path / "series.npy", np.zeros((5, 2), np.float32))
    with pytest.raises(InputError, match=r"has float32 \(5, 2\); expected float32 \(60, 2\): it was changed"):
        made.open_values()
    (tmp_path / "series.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match="cannot be read"):
        made.open_values()
    (tmp_path / "series.json").write_text('{"columns": 5}')
    with pytest.raises(InputError, match="is not what throughtime wrote"):
        SeriesTable(tmp_path)
