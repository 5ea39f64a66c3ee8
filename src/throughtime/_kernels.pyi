"""Packed, fused kernels for backpropagation through time on the CPU."""

from collections.abc import Sequence


ELMAN_TANH: int = 0

ELMAN_RELU: int = 1

ELMAN_IDENTITY: int = 2

ELMAN_SIGMOID: int = 3

GRU: int = 4

LSTM: int = 5

def architecture() -> str:
    """
    The architecture that serves when none is asked for. Raises ValueError where THROUGHTIME_ARCH names none that can.
    """

def architectures() -> list[str]:
    """Those that this machine can run, plainest first."""

def headers() -> str:
    """A sum over the headers that this extension was compiled from."""

def load_cell(path: str) -> int:
    """
    The number of a cell that was compiled against the headers that headers() names, for one architecture and element type. Runs the file's code.
    """

def residuals_size(cell: object, sizes: Sequence[int], keep: object, float64: bool, arch: object | None = None) -> int:
    """How many elements forward leaves in `residuals`; sizes: (T, B, H)."""

def scratch_size(cell: object, sizes: Sequence[int], keep: object, float64: bool, threads: object) -> list[int]:
    """
    Bytes of scratch while forward runs, and while backward does; sizes: (T, B, I, H).
    """

def forward(call: object, results: object) -> None:
    """
    One layer forward over all of time.

    call: (cell, xs, state, (W, R, b_ih, b_hh), lengths, reset, restart, reverse, keep, threads, arch);
    a loaded cell's weights: (W, R, b_ih, b_hh, parameters (P, H) or None);
    results, written: (hs, last, residuals).
    """

def backward(call: object, run: object, arriving: object, results: object) -> None:
    """
    The same layer backward.

    call: as forward's; run: (hs, residuals) of forward; arriving: (dhs, dlast, clip);
    results, written: (dxs, dstate, (dW, dR, db_ih, db_hh), drestart); a loaded cell's: (dW, dR, db_ih, db_hh, dparameters (L, H) or None).
    """

def forward_layers(call: object, results: object) -> None:
    """
    Several layers forward, from the first step to the last, with weights as torch stores them.

    call: (cell, xs, state or None, weights, vectors or None, keep, threads), weights one tuple of W, R, b_ih, b_hh of every layer,
    vectors another of the arrays (H,) that a loaded cell has of its own, those of every layer, learned ones first;
    results, written: (hs, last, residuals): tuples of one array for each layer, of S arrays (layers, B, H), and again of one for each.
    """

def backward_layers(call: object, run: object, arriving: object, results: object) -> None:
    """
    The same layers backward.

    call: as forward_layers's; run: (hs, residuals) of it; arriving: (dhs, dlast);
    results, written: (dxs, dstate, dweights, dvectors, between), between a tuple of one or two arrays (T, B, H) of no meaning afterwards.
    """

def forward_stack(layers: object) -> None:
    """
    Several layers forward, each over the hs of the one before; for small batches they take turns in time.

    layers: a tuple of (call, results) of forward for each, from the first to the last.
    """

def backward_stack(layers: object) -> None:
    """
    The same layers backward, the dxs of each the dhs of the next.

    layers: a tuple of (call, run, arriving, results) of backward for each, from the last to the first.
    """

class Steps:
    """
    Layers from the first to the last that keep their state and their packed weights from step to step.

    Call one from one thread at a time: it keeps the interpreter's lock.
    """

    def __init__(self, cell: object, weights: object, streams: object, threads: object) -> None:
        """
        weights: one tuple of W, R, b_ih, b_hh of every layer, as torch stores them; they are copied. The state is zero.
        """

    def step(self, x: object | None, y: object | None) -> None:
        """One step of every stream: x (B, I); y (B, H), written."""

    def read_state(self, state: object | None) -> None:
        """Copies the state into a tuple of S arrays (layers, B, H)."""

    def write_state(self, state: object | None) -> None:
        """Copies the state from a tuple of S arrays (layers, B, H)."""

def cross_entropy(call: object) -> None:
    """
    losses (N) = cross-entropy in nats of the rows of logits (N, V).

    call: (logits, targets, scale, losses, gradient, threads, arch); with gradient, logits become (softmax - one-hot) * scale.
    """

def tanh(x: object, y: object, arch: object | None = None) -> None:
    """y = tanh(x), as the kernels compute it."""

def sigmoid(x: object, y: object, arch: object | None = None) -> None:
    """y = 1 / (1 + exp(-x)), as the kernels compute it."""
