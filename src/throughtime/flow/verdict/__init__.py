"""From the numbers to words: how it stands with the gradient, and what to try."""

from ._words import Advice as Advice, Reader as Reader, State as State, Verdict as Verdict
from ._judge import judge as judge
