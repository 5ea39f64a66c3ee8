"""Hostile inputs: ``_odd`` values, ways to ``_spoil`` a file, a ``_home`` of whole ones, ``_examples`` by number, the ``_trial`` of one."""

from ._examples import example
from ._home import Home
from ._trial import Judgement, Trial, begin, judged

__all__ = ["Home", "Judgement", "Trial", "begin", "example", "judged"]
