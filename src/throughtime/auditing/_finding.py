"""A finding: what was seen, why it matters, the numbers behind it, and the way out."""

from dataclasses import dataclass, field
from typing import Any, Literal, final

Severity = Literal["error", "warning", "note"]


@final
@dataclass(frozen=True)
class Finding:
    """One thing that the audit has found.

    Attributes:
        kind: a few words that name it, always the same for the same fault.
        severity: "error": the training is not what it looks like. "warning": arithmetic or information is lost. "note": a measured fact.
        says: what was seen.
        evidence: the numbers behind it.
        remedy: what to do; empty for a note.
    """

    kind: str
    severity: Severity
    says: str
    evidence: dict[str, Any] = field(default_factory=dict)
    remedy: str = ""

    def __str__(self) -> str:
        numbers = ", ".join(f"{k.replace('_', ' ')} {_short(v)}" for k, v in self.evidence.items())
        lines = [f"{self.severity:7s} {self.kind}: {self.says}"]
        lines += [f"        evidence: {numbers}"] if numbers else []
        return "\n".join([*lines, *([f"        remedy: {self.remedy}"] if self.remedy else [])])


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
