"""The letters for sizes. Each has one meaning everywhere.

T time · B batch · I input · H hidden · G gates · S states · V vocabulary · L layers

Time is the first axis: ``xs`` is (T, B, I). One step of it is ``x`` (B, I). Gates have an axis of their own: (T, B, G, H).
A recurrent state is a tuple of S tensors with ``h`` first: ``(h,)`` for the simple network and the GRU, ``(h, c)`` for the LSTM;
(B, H) each inside one layer, (L, B, H) each for a stack of layers.
"""

from torch import Tensor

State = tuple[Tensor, ...]
