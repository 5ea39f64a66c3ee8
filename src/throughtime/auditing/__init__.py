"""Audits: what a training loop that somebody else wrote does with its recurrent layers, measured while it runs."""

from ._finding import Finding as Finding, Severity as Severity
from ._report import Audit as Audit, Layer as Layer
from ._audit import audit as audit
