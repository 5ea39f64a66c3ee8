"""How fast this package is on the machine at hand, beside torch.nn and, where they are installed, JAX and onnxruntime."""

from ._draw import draw as draw
from ._measure import QUESTIONS as QUESTIONS, measure as measure
from ._row import Row as Row, Spread as Spread
