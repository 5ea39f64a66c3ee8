"""What the pictures of a run and of compared methods show, read off their axes."""

import math

from matplotlib.figure import Figure

from throughtime.cli import _compared
from throughtime.gradients import Compared
from throughtime.training._report import _draw_looks, _draw_norms

LOOKS = [{"step": s, "horizon": h, "profile": [0.8**k for k in range(20)]} for s, h in ((10, 7), (20, None), (30, 12), (40, None))]


def test_a_horizon_beyond_the_window_is_marked_and_leaves_no_gap():
    axes = Figure().subplots()
    _draw_looks(axes, LOOKS)
    horizon, beyond = axes.lines
    assert list(horizon.get_ydata()) == [7, 19, 12, 19]
    assert (list(beyond.get_xdata()), list(beyond.get_ydata())) == ([20, 40], [19, 19])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["horizon: 1 % is left", "beyond the window"]


def test_a_horizon_within_the_window_alone_has_no_mark():
    axes = Figure().subplots()
    _draw_looks(axes, LOOKS[::2])
    assert len(axes.lines) == 1


def test_ticks_of_a_narrow_range_are_plain_numbers():
    figure = Figure()
    axes = figure.subplots()
    _draw_norms(axes, [{"step": s, "gradient_norm": 0.55 + 0.01 * s} for s in range(1, 30)], 0.7)
    figure.canvas.draw()
    labels = [label.get_text() for label in (*axes.get_yticklabels(), *axes.get_yticklabels(minor=True)) if label.get_text()]
    assert labels
    assert all(math.isfinite(float(label)) for label in labels)  # and none as 6 × 10⁻¹


def test_memory_of_methods_is_on_a_logarithmic_axis(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    rows = [
        Compared("full", "exactly", 1, 1.0, 0.0, 0.0, 0.0, 5.0, 400_000),
        Compared("rtrl", "exactly", 1, 1.0, 0.0, 0.0, 0.0, 5e3, 900_000_000),
    ]
    _compared.draw_compared(rows, tmp_path / "x.png", "title")
    small = drawn[0].axes[2]
    assert small.get_xscale() == "log"
    assert sorted(small.collections[0].get_offsets()[:, 0].tolist()) == [0.4, 900.0]
