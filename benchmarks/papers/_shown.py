"""The results of a table as Markdown. It needs nothing but Python, so that `make readme-tables` can use it too."""

import statistics
from collections.abc import Sequence
from typing import Any


def shown(rows: Sequence[dict[str, Any]], measure: str, digits: str) -> str:
    """A row of the paper a line."""
    head = ["", f"paper, {measure}", "throughtime, mean ± sd", "seeds", "parameters", "processor time", "wall time"]
    lines = [head, ["---"] * len(head), *(_line(row, digits) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _line(row: dict[str, Any], digits: str) -> list[str]:
    runs = row["runs"]
    times = [f"{statistics.fmean(run[clock] for run in runs) / 60:.1f} min" for clock in ("processor_seconds", "seconds")]
    return [row["name"], row["paper"], spread([run["value"] for run in runs], digits), str(len(runs)), f"{runs[0]['parameters']:,}", *times]


def spread(values: Sequence[float], digits: str) -> str:
    """Mean ± standard deviation of a sample."""
    deviation = f" ± {statistics.stdev(values):{digits}}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):{digits}}{deviation}"
