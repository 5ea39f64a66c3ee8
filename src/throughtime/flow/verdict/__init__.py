"""From the numbers to words: how it stands with the gradient, and what to try."""

from ._words import Advice as Advice, Verdict as Verdict
from ._verdict import judge as judge
