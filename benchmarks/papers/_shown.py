"""The results of a table as Markdown. It needs nothing but Python, so that `make readme-tables` can use it too."""

import statistics
from collections.abc import Sequence
from typing import Any


def shown(rows: Sequence[dict[str, Any]], measure: str, digits: str) -> str:
    """A row of the paper a line."""
    head = ["", f"paper, {measure}", "throughtime, mean ± sd", "seeds", "parameters", "processor time", "wall time"]
    judged = ["learned"] if "learned" in rows[0]["runs"][0] else []
    head[3:3] = judged
    lines = [head, ["---"] * len(head), *(_line(row, digits, bool(judged)) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _line(row: dict[str, Any], digits: str, judged: bool) -> list[str]:
    runs = row["runs"]
    times = [_duration(statistics.fmean(run[clock] for run in runs)) for clock in ("processor_seconds", "seconds")]
    learned = [f"{sum(run['learned'] for run in runs)} of {len(runs)}"] if judged else []
    values = spread([run["value"] for run in runs], digits)
    return [row["name"], row["paper"], values, *learned, str(len(runs)), f"{runs[0]['parameters']:,}", *times]


def spread(values: Sequence[float], digits: str) -> str:
    """Mean ± standard deviation of a sample."""
    deviation = f" ± {statistics.stdev(values):{digits}}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):{digits}}{deviation}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
