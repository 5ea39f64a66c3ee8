"""What shows a measurement of gradient flow: JSON, table, figure, and the page as a browser sees it."""

import json
import math
import os
import re

import pytest
import torch
from _chromium import browse
from _flows import TEXT, made_up
from _tables import first

from throughtime import InputError
from throughtime.flow.report._json import as_dict


def parsed(flow, **options):
    """The JSON, read as strictly as JSON is written."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(flow.to_json(**options), parse_constant=refuse)


class TestJson:
    def test_every_cell_of_the_maps(self):
        flow = made_up(T=9, K=7, L=2)
        found = parsed(flow)["adjoint"]
        assert found["steps"] == list(range(9))
        wanted = {"state": flow.adjoint.joint, "input": flow.adjoint.inputs, "layer 1": flow.adjoint.layers[1]}
        for name, values in wanted.items():
            for t, row in enumerate(found["maps"][name]):
                assert (row is None) == bool(values[t].isnan().all())
                if row is not None:
                    assert len(row) == min(t + 1, 7)
                    assert row == pytest.approx(values[t, : t + 1].tolist(), rel=1e-3)

    def test_numbers_keep_six_digits_and_holes_are_null(self):
        flow = made_up()
        found = parsed(flow)
        assert found["adjoint"]["profile"] == pytest.approx(flow.adjoint.profile.tolist(), rel=1e-5)
        assert found["adjoint"]["quantiles"][4] == pytest.approx(flow.adjoint.quantiles[4].tolist(), rel=1e-5)
        assert found["gates"]["openness"][0][2][0] is None
        assert found["gates"]["half_life"][0][0][0] == "inf"
        assert found["about"]["loss"] == 2.34568
        assert found["verdict"]["advice"][0]["because"] == {"bias at 64": 0.031, "half lag": 7.0}

    def test_the_window_is_the_advised_one_unless_given(self):
        assert parsed(made_up())["bias"]["chosen"] == 20
        assert parsed(made_up(), window=9)["bias"]["chosen"] == 9

    def test_singular_values_over_the_samples(self):
        flow = made_up()
        rows = parsed(flow)["jacobians"]["singular_values"]
        assert rows[0] == pytest.approx(flow.jacobians.singular_values.min(0).values.tolist(), rel=1e-5)
        assert rows[2] == pytest.approx(flow.jacobians.singular_values.quantile(0.5, 0).tolist(), rel=1e-5)

    def test_symbols_are_spelled(self):
        flow = made_up(text=TEXT)
        assert parsed(flow, symbols=chr)["text"]["inputs"] == list(TEXT[:24])
        assert parsed(flow)["text"]["inputs"] == [str(ord(c)) for c in TEXT[:24]]

    def test_a_large_map_keeps_every_so_many_steps(self):
        found = as_dict(made_up(T=400))
        every = math.ceil(4 * 400 * 400 / 300_000)
        assert found["adjoint"]["steps"] == [t for t in range(400) if (399 - t) % every == 0]
        assert len(json.dumps(found)) < 5e6


class TestFrame:
    def test_a_row_a_lag(self):
        flow = made_up(K=7)
        frame = flow.to_frame()
        assert frame["lag"].to_list() == list(range(7))
        assert frame["profile"].to_list() == flow.adjoint.profile.tolist()
        assert frame["profile_q0.25"].to_list() == flow.adjoint.quantiles[1].tolist()
        assert frame["gradient:recurrence.weight_hh_l0"].to_list() == flow.lags.norms["recurrence.weight_hh_l0"].tolist()
        assert frame["bias"].to_list() == flow.bias.bias.tolist()
        assert frame["window"].to_list() == list(range(1, 8))

    def test_a_row_a_cell(self):
        flow = made_up(T=9, K=7)
        frame = flow.to_frame("map")
        assert len(frame) == sum(min(t + 1, 7) for t in range(9))
        for t, k, state in frame.select("step", "lag", "state").rows():
            assert state == float(flow.adjoint.joint[t, k]) or math.isnan(state)

    def test_without_polars(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "polars", None)
        with pytest.raises(ImportError, match=r"to_frame needs polars.*pip install 'throughtime\[frames\]'"):
            made_up().to_frame()


@pytest.mark.parametrize("size", first([{"L": 3, "K": 5}], [{}, {"T": 1, "B": 1}, {"L": 3, "K": 5}]), ids=str)
def test_the_figure_draws_what_was_measured(size, tmp_path):
    flow = made_up(**size)
    figure = flow.plot()
    figure.savefig(tmp_path / "figure.png")
    titles = [axes.get_title() for axes in figure.axes]
    assert "how it changes on its way back" in titles
    line = next(axes for axes in figure.axes if axes.get_title() == "how it changes on its way back").lines[0]
    assert line.get_ydata().tolist() == pytest.approx(flow.adjoint.profile.tolist(), nan_ok=True)


class TestFile:
    def test_it_is_replaced_as_a_whole(self, tmp_path):
        made_up().to_html(tmp_path / "page.html", title="one")
        made_up().to_html(str(tmp_path / "page.html"), title="two")
        assert "<title>two</title>" in (tmp_path / "page.html").read_text("utf-8")
        assert [file.name for file in tmp_path.iterdir()] == ["page.html"]

    @pytest.mark.parametrize("name", ["missing/page.html", "folder", "file/page.html"])
    def test_a_path_that_cannot_be_written(self, tmp_path, name):
        (tmp_path / "folder").mkdir()
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match=rf"{name} cannot be written \(.*\); expected a file in a folder"):
            made_up().to_html(tmp_path / name)
        assert sorted(os.listdir(tmp_path)) == ["file", "folder"]

    def test_no_address_is_in_it(self, tmp_path):
        made_up(text=TEXT).to_html(tmp_path / "page.html", symbols=chr)
        page = (tmp_path / "page.html").read_text("utf-8")
        assert set(re.findall(r"\w+://[^\"' ]*", page)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
        assert len(page) < 200_000


@pytest.fixture(scope="module")
def measured():
    return made_up(60, 4, 50, text=TEXT)


@pytest.fixture(scope="module")
def page(tmp_path_factory, measured):
    file = tmp_path_factory.mktemp("report") / "page.html"
    measured.to_html(file, symbols=chr, title="A <b>bold</b> & title")
    return file


@pytest.fixture(scope="module")
def seen(page):
    """The page once opened: the map's size and the place of each pixel's colour on the scale, how wide it is, and the document."""
    script = """
        const canvas = document.querySelector('#heat canvas'), data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        const colours = [...Array(1001).keys()].map((i) => viridis(i / 1000));
        const share = (r, g, b) => colours.map((c, i) => [Math.hypot(c[0] - r, c[1] - g, c[2] - b), i]).reduce((a, b) => (b[0] < a[0] ? b : a))[1] / 1000;
        const shares = [...Array(canvas.width * canvas.height).keys()].map((i) => (data[4 * i + 3] ? share(...data.slice(4 * i, 4 * i + 3)) : null));
        const wide = [document.documentElement.scrollWidth, innerWidth];
        document.querySelectorAll('details').forEach((d) => (d.open = true));
        return new Promise((done) => setTimeout(() => done([[canvas.width, canvas.height, shares], wide]), 200));
    """
    (coloured, wide), dom = browse(page, script, address="#t=40&k=7")
    return coloured, wide, dom


class TestInABrowser:
    def test_the_numbers_of_the_charts_are_those_of_the_json(self, seen, measured):
        _, _, dom = seen
        data = json.loads(dom.by_id("flow").text)
        assert data == parsed(measured, symbols=chr)
        assert read_line(dom, "profile", "mean over steps and streams") == pytest.approx(data["adjoint"]["profile"], rel=2e-3)
        assert read_line(dom, "lags", "all parameters") == pytest.approx(data["lags"]["total"], rel=2e-3)
        bias = [b for b in data["bias"]["bias"] if b > 1e-9]
        assert read_line(dom, "bias", "sliding: every loss sees K lags") == pytest.approx(bias, rel=2e-3)
        assert read_line(dom, "spectra", "J, one step") == pytest.approx(data["jacobians"]["singular_values"][2], rel=5e-3)
        assert read_line(dom, "exponents", "exponent", log=False) == pytest.approx(data["jacobians"]["exponents"], rel=2e-3)
        openness = sorted(data["gates"]["openness"][0][1])
        assert read_line(dom, "gates", "z", log=False) == pytest.approx(openness, abs=2e-3)
        assert read_table(dom, "profile")[1] == pytest.approx(data["adjoint"]["profile"], rel=1e-4)
        assert read_table(dom, "bias")[1] == pytest.approx(data["bias"]["bias"], rel=1e-4)
        assert f"7 back: {data['adjoint']['maps']['state'][40][7]:g} " in dom.by_id("readout").text

    def test_the_colours_of_the_map(self, seen, measured):
        """Every cell's pixel, put back through the colour scale, is its number to the scale's own resolution."""
        (width, height, shares), _, _ = seen
        assert (width, height) == (60, 50)
        values = measured.adjoint.joint
        there = values[values > 0]
        low, high = math.log(float(there.min())), math.log(float(there.max()))
        for t in range(60):
            for k in range(50):
                share, value = shares[(49 - k) * 60 + t], float(values[t, k])
                if math.isnan(value):
                    assert share is None
                else:
                    assert share == pytest.approx((math.log(value) - low) / (high - low) if value > 0 else 0, abs=0.01)

    @pytest.mark.slow
    def test_picking_a_symbol_shows_what_its_loss_leans_on(self, page, measured):
        script = """
            document.querySelector('#symbol-41').click();
            const picked = [$('token-readout').textContent, $('readout').textContent];
            $('tokens').dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft' }));
            const left = $('token-readout').textContent;
            document.querySelector('.heat').dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowUp' }));
            const shade = [...document.querySelectorAll('#tokens span')].map((s) => +(s.style.background.match(/[\\d.]+(?=\\))/) ?? [0])[0]);
            return [picked, left, $('readout').textContent, shade];
        """
        ((token, step), left, up, shade), dom = browse(page, script)
        row = measured.adjoint.stream_inputs[40, :41]
        best = int(row.argmax())
        assert token.startswith(f"“{spelled(TEXT[41])}” after “{spelled(TEXT[40])}”: loss ")
        assert f"Leans most on “{spelled(TEXT[40 - best])}” {best} back" in token
        assert step.startswith("loss at step 40 ")
        assert left.startswith(f"“{spelled(TEXT[40])}” after “{spelled(TEXT[39])}”")
        assert "leans on step 38" in up
        darkest = max(range(39 + 1), key=lambda i: shade[i])
        assert darkest == 39 - int(measured.adjoint.stream_inputs[39, :40].argmax())
        assert not any(shade[41:])
        assert dom.by_id("tokens").text == TEXT[:61].replace("\n", "↵\n")

    def test_nothing_is_wider_than_the_screen(self, seen):
        _, (wide, there), _ = seen
        assert wide <= there

    @pytest.mark.slow
    def test_nothing_is_wider_than_a_narrow_screen(self, page):
        (wide, there), _ = browse(page, "return [document.documentElement.scrollWidth, innerWidth]", width=500)
        assert wide <= there

    def test_a_text_that_would_be_markup(self, tmp_path):
        evil = {
            0: "</script><script>document.documentElement.dataset.evil = 1</script>",
            1: "<img src=x onerror='alert(1)'>",
            2: "</script \u2028&lt;",
        }
        flow = made_up(text="A" * 30)
        flow.to_html(tmp_path / "page.html", symbols=lambda i: evil[i % 3], title=evil[0])
        _, dom = browse(tmp_path / "page.html")
        assert "data-evil" not in dom.first("html").attributes
        assert not dom.all("img")
        assert dom.first("h1").text == evil[0]
        assert set(e.text for e in dom.all("span", "tokens")) <= set(evil.values())
        assert json.loads(dom.by_id("flow").text) == parsed(flow, symbols=lambda i: evil[i % 3])

    @pytest.mark.slow
    @pytest.mark.parametrize("size", [{"T": 1, "B": 1, "H": 1}, {"T": 9, "K": 2, "L": 3}, {"T": 2, "B": 1}], ids=str)
    def test_small_ones(self, tmp_path, size):
        made_up(**size).to_html(tmp_path / "page.html")
        browse(tmp_path / "page.html")

    @pytest.mark.slow
    def test_what_was_not_measured_is_not_drawn(self, tmp_path):
        from dataclasses import replace

        full = made_up()
        lags = replace(full.lags, norms={}, total=torch.zeros(0, dtype=torch.float64), error=math.nan)
        adjoint = replace(full.adjoint, inputs=None, stream_inputs=None, input_profile=None)
        flow = replace(full, lags=lags, adjoint=adjoint, bias=None, jacobians=None, gates=None, inputs=None, targets=None)
        flow.to_html(tmp_path / "page.html")
        _, dom = browse(tmp_path / "page.html")
        drawn = {section for section in ("profile", "bias", "lags", "spectra", "exponents", "gates") if dom.all("svg", section)}
        assert drawn == {"profile"}
        assert "hidden" in dom.by_id("text").attributes
        assert len(flow.plot().axes) == 3  # map, its colours, profile
        assert "bias" not in flow.to_frame().columns


def spelled(symbol: str) -> str:
    return {"\n": "↵", " ": "␣"}.get(symbol, symbol)


def read_line(dom, chart: str, name: str, *, log: bool = True) -> list[float]:
    """A line's numbers from its points on the screen, by the labels of the axis beside it."""
    ticks = [
        (float(e.attributes["y"]) - 4, value(e.text))
        for e in dom.all("text", chart)
        if e.attributes.get("text-anchor") == "end" and "axis" in e.classes
    ]
    (y0, v0), (y1, v1) = ticks[0], ticks[-1]
    path = next(e for e in dom.all("path", chart) if e.attributes.get("data-name") == name)
    ys = [float(pair.split(",")[1]) for pair in re.findall(r"[\d.-]+,[\d.-]+", path.attributes["d"])]
    if not log:
        return [v0 + (v1 - v0) * (y - y0) / (y1 - y0) for y in ys]
    return [v0 * (v1 / v0) ** ((y - y0) / (y1 - y0)) for y in ys]


def read_table(dom, chart: str) -> list[list[float | None]]:
    """The columns of a chart's table of numbers."""
    cells = [e.text for e in dom.all("td", chart)]
    width = len(dom.all("th", chart))
    return [[value(c) if c not in ("", "–") else None for c in cells[i::width]] for i in range(width)]


def value(label: str) -> float:
    """A number as the page writes it."""
    up = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
    if power := re.fullmatch(r"10([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)", label):
        return 10.0 ** int(power[1].translate(up))
    return float(label.replace("−", "-"))
