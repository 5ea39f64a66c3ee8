"""A forecaster's run: the loop of texts, on a table. It is resumed to the same bits, and forecasts the same bytes."""

import json
import math
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import throughtime as tt
from throughtime import InputError
from throughtime.cli import main
from throughtime.training import RunFolder

SIZES = ["--hidden", "6", "--batch-size", "4", "--bptt", "9", "--context", "6", "--horizon", "3", "--threads", "1"]
CHOICE = ["--target", "sold", "--features", "price", "--known-future", "open", "--group", "shop", "--time", "day"]


def shops(days, *, blank_from=10**9):
    rows, chance = ["day,shop,sold,open,price"], random.Random(0)
    for d in range(days):
        for shop, level in (("a", 10), ("b", 200)):
            sold = level * (1 + 0.3 * math.sin(d / 7 * 2 * math.pi)) + chance.random()
            gap = d in (30, 31) or d >= blank_from
            rows.append(f"{np.datetime64('2024-01-01') + d},{shop},{'' if gap else f'{sold:.3f}'},{int(d % 7 < 6)},{chance.random():.2f}")
    return "\n".join(rows) + "\n"


@pytest.fixture(autouse=True)
def _as_in_a_shell(tmp_path, monkeypatch, no_pictures):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "shops.csv").write_text(shops(120))
    torch.set_default_dtype(torch.float32)


def train(*flags):
    return main(["train", "series", "shops.csv", *CHOICE, *SIZES, *flags])


def rows(run):
    timed = ("seconds", "steps_per_second")
    return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_resumed_to_the_same_bits_and_rows(tmp_path):
    assert train("--steps", "24", "--eval-every", "5", "--dropout", "0.2", "--out", "whole") == 0
    assert train("--steps", "13", "--eval-every", "5", "--dropout", "0.2", "--out", "cut") == 0
    assert main(["train", "series", "--out", "cut", "--resume", "--steps", "24"]) == 0
    for file in ("model.safetensors", "state.safetensors"):
        whole, cut = load_file(tmp_path / "whole" / file), load_file(tmp_path / "cut" / file)
        assert whole.keys() == cut.keys()
        assert all(torch.equal(whole[name], cut[name]) for name in whole)
    same = [row for row in rows(tmp_path / "cut") if row["step"] not in (13,)]  # where the first budget ended
    assert [r for r in rows(tmp_path / "whole") if r["kind"] == "valid"][-1] == [r for r in same if r["kind"] == "valid"][-1]


def test_from_the_shell_to_a_forecast(tmp_path, capsys):
    assert train("--steps", "30", "--loss", "gaussian", "--out", "run") == 0
    assert "2 series of 3 columns" in capsys.readouterr().out
    (tmp_path / "later.csv").write_text(shops(120, blank_from=112))
    for name in ("one.csv", "two.csv"):
        assert main(["forecast", "run", "--data", "later.csv", "--steps", "5", "--out", name]) == 0
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    lines = [line.split(",") for line in (tmp_path / "one.csv").read_text().splitlines()]
    assert lines[0] == ["shop", "day", "sold", "sold_low", "sold_high"]
    assert [line[:2] for line in lines[1:]] == [[shop, f"2024-04-{22 + i}"] for shop in "ab" for i in range(5)]
    for line in lines[1:]:  # those beyond the horizon too
        assert float(line[3]) < float(line[2]) < float(line[4])
    assert abs(float(lines[1][2]) - 10) < 10
    assert abs(float(lines[6][2]) - 200) < 100
    for verb in (["evaluate", "run"], ["evaluate", "run", "--json"], ["flow", "run", "--streams", "2"], ["runs", "."]):
        assert main(verb) == 0
    out = capsys.readouterr().out
    assert "test, last value" in out
    assert "test, seasonal naive (7)" in out
    assert "in the 80% interval" in out
    assert main(["export", "run"]) == 0
    assert main(["train", "series", "--from", "run", "--steps", "2", "--out", "child"]) == 0
    assert main(["sample", "run"]) == 2
    assert "is a run of train series; expected one of train text or train frames. Use throughtime forecast" in capsys.readouterr().err
    assert main(["train", "text", "--out", "run", "--resume"]) == 2
    assert "is a run of throughtime train series; expected one of throughtime train text" in capsys.readouterr().err


def test_a_backtest_is_the_forecasts_one_by_one(tmp_path):
    """Errors of the model and of the baselines, found again from forecasts of the table cut off at each origin."""
    assert train("--steps", "5", "--no-relative", "--out", "run") == 0
    trained = tt.load("run")
    table, K = trained.table, 3
    score = trained.evaluate("test")
    values, error, naive, scaled = table.open_values().astype(float), [], [], []
    for g, group in enumerate(table.groups):
        start, stop = group.bounds("test")
        y = values[group.start : group.stop] * table.scale[g] + table.mean[g]
        for t in range(start - 1, stop - K):
            at = t - group.start
            rows = values[group.start : t + 1].astype(np.float32)
            rows = rows[max(0, len(rows) - 6 - (t - start + 1)) :]
            known = values[t + 1 : t + 1 + K, -1:].astype(np.float32)
            piece = next(p for p in _origins(trained).pieces if p[0] == g and p[2] <= t < p[3])
            point = tt.training.roll(
                trained.model, table.columns, values[piece[1] : t + 1].astype(np.float32), known, K, level=0.8, relative=False
            ).point
            truth = y[at + 1 : at + 1 + K, 0]
            error += list(truth - (point[:, 0] * table.scale[g, 0] + table.mean[g, 0]))
            naive += list(truth - y[at, 0])
            scaled += list(np.abs(truth - y[at, 0]) / table.scale[g, 0] / table.error[g, 0])
    eps = float(torch.finfo(torch.float32).eps)  # the network's sums in float32: 6 units, 20 steps, values up to 300
    tolerance = 4 * eps * 20 * (6 + 10) * 300
    assert score.origins == len(error) // K
    assert abs(score.model["rmse"][0] - np.sqrt(np.mean(np.square(error)))) < tolerance
    last = score.errors["last value"].numbers()
    assert abs(last["rmse"][0] - np.sqrt(np.mean(np.square(naive)))) < tolerance
    assert abs(last["mase"] - np.mean(scaled)) < tolerance


def _origins(trained):
    from throughtime.data import Origins

    return Origins(trained.table, "test", horizon=3, context=6, pieces=64, relative=False)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--target", "sole"],
            "--target is 'sole', which is no column of shops.csv; expected one of day, shop, sold, open, price; perhaps 'sold'",
        ),
        (["--context", "200"], "has 120 steps, 84 of them for training; expected 203 at least, --context and --horizon together"),
        (["--split", "0.5,0.2,0.2"], "split is 0.5,0.2,0.2"),
        (["--interval", "1"], "--interval is 1.0; expected a probability"),
        (["--horizon", "0"], "--horizon is 0"),
        (["--time", "shop"], "row 2: 'shop' is 'a'; expected a time"),
        (["--sample-every", "5"], "--sample-every is given with train series"),
        (["--loss", "hubber"], "--loss is 'hubber'"),
    ],
)
def test_one_sentence_and_nothing_is_left(tmp_path, capsys, flags, words):
    assert train(*flags, "--out", "runs/x") == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["shops.csv"]


def test_another_table_is_measured_as_the_runs_own_part(tmp_path, capsys):
    """The rows of the test part, with the context before them, in a file of their own: the same origins, the same errors."""
    assert train("--steps", "3", "--out", "run") == 0
    table = tt.load("run").table
    first, _ = table.groups[0].bounds("test")
    lines = shops(120).splitlines()
    (tmp_path / "part.csv").write_text("\n".join([lines[0], *lines[1 + 2 * (first - 6) :]]) + "\n")
    capsys.readouterr()
    assert main(["evaluate", "run", "--json"]) == 0
    own = json.loads(capsys.readouterr().out)
    assert main(["evaluate", "run", "--data", "part.csv", "--json"]) == 0
    other = json.loads(capsys.readouterr().out)
    assert other.pop("part") == "part.csv"
    assert own.pop("part") == "test"
    assert other.keys() == own.keys()
    seasonal = [name for name in own if "seasonal" in name]  # a season earlier than the file's first row is not in it
    exact = [name for name in own if name.startswith(("last", "mean", "origins"))]
    assert all(other[name] == pytest.approx(own[name], rel=1e-6) for name in exact)
    # the change in the file's own first row is unknown there: one of the inputs of one of the origins is another
    assert all(other[name] == pytest.approx(own[name], rel=1e-3) for name in own if name not in seasonal)
    assert main(["evaluate", "run", "--data", "part.csv", "--streams", "2"]) == 2
    for text, words in (
        (shops(8), "the series 'a' has 8 steps; expected 9 at least, the run's --context and --horizon together"),
        (shops(120).replace(",a,", ",c,"), "the series 'c' was not among those of training"),
        ("day,shop,sold,open,price\n" + "".join(f"2024-01-01 {h:02}:00,a,{h},1,1\n" for h in range(24)), "the times come in other steps"),
        (shops(120).replace("sold", "bought"), "--target is 'sold', which is no column of other.csv"),
    ):
        (tmp_path / "other.csv").write_text(text)
        assert main(["evaluate", "run", "--data", "other.csv"]) == 2
        assert words in capsys.readouterr().err


def test_a_table_that_has_changed_since_training_read_it(tmp_path, capsys):
    assert train("--steps", "1", "--out", "run") == 0
    table = tmp_path / "shops.csv"
    again = table.read_text()
    table.write_text(again)  # another time, the same bytes
    tt.load("run").table.refuse_changed()
    table.write_text(shops(121))
    capsys.readouterr()
    assert main(["forecast", "run", "--out", "x.csv"]) == 2
    said = capsys.readouterr().err
    assert "has changed since training read it: it has" in said
    assert f"give it as --data {table}" in said
    assert not (tmp_path / "x.csv").exists()
    table.unlink()
    tt.load("run").table.refuse_changed()
    (tmp_path / "one.csv").write_text("x\n1\n")
    assert main(["train", "series", "one.csv", "--target", "x", "--out", "y"]) == 2
    assert "the table has 1 step, 1 of them for training" in capsys.readouterr().err


def test_a_forecast_that_cannot_be(tmp_path, capsys):
    assert train("--steps", "2", "--out", "run") == 0
    assert main(["forecast", "run", "--out", "x.csv"]) == 2
    assert "open: 0 steps known after the last target of 'a'; expected 3" in capsys.readouterr().err
    (tmp_path / "short.csv").write_text(shops(4))
    assert main(["forecast", "run", "--data", "short.csv", "--out", "x.csv"]) == 2
    assert "short.csv: the series 'a' has 4 steps; expected 6 at least, the run's --context" in capsys.readouterr().err
    assert main(["forecast", "run", "--interval", "0.5", "--out", "x.csv"]) == 2
    assert "expected a run with --loss gaussian" in capsys.readouterr().err
    with pytest.raises(InputError, match="part is 'all'"):
        tt.load("run").evaluate("all")
    assert not (tmp_path / "x.csv").exists()


def test_a_model_from_plain_values():
    config = {"input_size": 3, "targets": 2, "cell": "lstm", "loss": "quantiles", "horizon": 4, "hidden_size": 5}
    model = tt.models.Forecaster.from_config(json.loads(json.dumps(config)))
    assert model.head.weight.shape == (3 * 4 * 2, 5)
    with pytest.raises(InputError, match="loss is 'cubed'; expected 'squared'"):
        tt.models.Forecaster.from_config({**config, "loss": "cubed"})
    with pytest.raises(InputError, match="unexpected keyword argument 'wide'"):
        tt.models.Forecaster.from_config({**config, "wide": 1})


def test_the_same_model_in_plain_torch_has_the_same_losses(tmp_path):
    """torch's own GRU and linear layer, from the same weights, on the same batches, with the same rule: the mean loss of ten steps."""
    assert train("--steps", "10", "--optimizer", "sgd", "--lr", "0.1", "--out", "run") == 0
    (row,) = [row for row in rows(tmp_path / "run") if row["kind"] == "train"]
    folder = RunFolder.open(tmp_path / "run")
    task, loop = folder.task(), folder.config.loop
    torch.manual_seed(loop.seed)
    ours = task.build_model(folder.config.network)
    gru, linear = torch.nn.GRU(ours.input.size, 6), torch.nn.Linear(6, 3)
    gru.load_state_dict(ours.recurrence.state_dict())
    linear.load_state_dict(ours.head.state_dict())
    parameters = [*gru.parameters(), *linear.parameters()]
    rule, h, losses = torch.optim.SGD(parameters, 0.1), None, []
    stream = task.stream(loop)
    for step in range(10):
        batch = stream.at(step)
        hs, h = gru(batch.inputs, None if batch.fresh.all() else h.detach())
        counted = batch.mask.unsqueeze(2) & ~batch.targets.isnan()
        error = batch.targets.where(counted, linear(hs)) - linear(hs)
        loss = error.square().sum() / 3 / batch.mask.sum()
        rule.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        rule.step()
        losses.append(loss.item())
    eps = float(torch.finfo(torch.float32).eps)  # a window of 9 steps of 6 units and 8 inputs, and ten updates one after another
    assert abs(np.mean(losses) - row["loss"]) <= 4 * eps * 10 * 2 * (9 + 1) * (14 + 10) * np.mean(losses)


def test_no_change_is_the_last_value(tmp_path):
    """A head of zeros says that nothing changes: its errors are those of the last value."""
    assert train("--steps", "2", "--out", "run") == 0
    trained = tt.load("run")
    with torch.no_grad():
        trained.model.head.weight.zero_()
        trained.model.head.bias.zero_()
    score = trained.evaluate("valid")
    assert score.errors["model"].numbers() == score.errors["last value"].numbers()
    point = trained.forecast(_with_known(tmp_path)).point
    y = [float(line.split(",")[2]) for line in shops(112).splitlines()[-2:]]
    np.testing.assert_allclose(point[:, 0], np.repeat(y, 3), rtol=4 * float(torch.finfo(torch.float32).eps))


def _with_known(tmp_path):
    (tmp_path / "later.csv").write_text(shops(120, blank_from=112))
    return tmp_path / "later.csv"


def test_row_by_row_is_the_whole_series(tmp_path):
    """What a stream forecasts after the last row is what ``forecast`` does; rows may be mappings, and values may be missing."""
    assert train("--steps", "5", "--loss", "gaussian", "--out", "run") == 0
    (tmp_path / "later.csv").write_text(shops(120, blank_from=117))  # the last three days have only what is known beforehand
    trained = tt.load("run")
    table, whole = trained.table, trained.forecast("later.csv")
    g = table.group("b")
    group, names = table.groups[g], table.columns.read
    raw = table.open_values()[group.start : group.stop].astype(float) * table.scale[g] + table.mean[g]
    stream = trained.stream(group="b")
    with pytest.raises(InputError, match="no row has been pushed"):
        stream.interval(0.8)
    for _ in range(2):  # reset begins anew
        stream.reset()
        for t in range(len(raw) - 3):
            row = raw[t] if t % 2 else {name: x for name, x in zip(names, raw[t], strict=True) if np.isfinite(x)}
            point = stream.push(row, raw[t + 1 : t + 4, -1:])
    mine = np.array([name == "b" for name in whole.group])
    # float32: 6 units, 120 steps of sums of 6 and 9 terms, in units of the scale
    close = dict(rtol=0, atol=8 * torch.finfo(torch.float32).eps * 120 * (6 + 9) * table.scale[g, 0])
    assert np.allclose(point, whole.point[mine], **close)
    low, high = stream.interval(trained.options.series.interval)
    assert np.allclose(low, whole.low[mine], **close)
    assert np.allclose(high, whole.high[mine], **close)
    assert stream.interval(0.5)[0][0, 0] > low[0, 0]
    for call, message in (
        (lambda: trained.stream(), "the run has 2 series; expected the name of one, such as group='a'"),
        (lambda: trained.stream(2, group="a"), "streams is 2; expected 1"),
        (lambda: trained.stream(group="c"), "the series 'c' was not among those of training"),
        (lambda: stream.push([1.0, 2.0]), r"row has shape \(2,\); expected a finite value, or NaN, for each of sold, price, open"),
        (lambda: stream.push({"solt": 1.0}, raw[:3, -1:]), "'solt' is no column of the run; expected sold, price, open"),
        (lambda: stream.push(raw[0]), r"known has shape \(\); expected \(3, 1\): open, at each of the next 3 steps"),
        (lambda: stream.interval(1.0), "level is 1.0; expected a probability"),
        (lambda: trained.sample(), r"run is a forecaster of a table, which has no sample\(\)"),
        (lambda: trained.predict("shops.csv"), r"which has no predict\(\); expected a verb that it has. Use forecast\(\)"),
    ):
        with pytest.raises(InputError, match=message):
            call()
