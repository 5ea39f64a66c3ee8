"""Packed, fused kernels for backpropagation through time on the CPU."""



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

def kept_size(cell: int, T: int, B: int, H: int, keep: str, float64: bool, arch: object | None = None) -> int:
    """How many elements forward leaves in `kept`."""

def forward(cell: int, xs: object, h0: object, c0: object | None, W: object | None, R: object, b_ih: object | None, b_hh: object | None, lengths: object | None, reset: object | None, restart_h: object | None, restart_c: object | None, reverse: bool, keep: str, hs: object, h_last: object, c_last: object | None, kept: object | None, threads: int, arch: object | None = None) -> None:
    """One layer forward over all of time, into hs, h_last, c_last and kept."""

def backward(cell: int, xs: object, h0: object, c0: object | None, W: object | None, R: object, b_ih: object | None, b_hh: object | None, lengths: object | None, reset: object | None, restart_h: object | None, restart_c: object | None, reverse: bool, keep: str, hs: object, kept: object | None, dhs: object | None, dh_last: object | None, dc_last: object | None, clip: float, dxs: object | None, dW: object | None, dR: object, db_ih: object | None, db_hh: object | None, dh0: object, dc0: object | None, drestart_h: object | None, drestart_c: object | None, threads: int, arch: object | None = None) -> None:
    """
    The same layer backward, into every array whose name begins with d; a negative clip is none.
    """

def cross_entropy(logits: object, targets: object, scale: object | None, losses: object, gradient: bool, threads: int, arch: object | None = None) -> None:
    """
    losses (N) = cross-entropy in nats of the rows of logits (N, V). With gradient, logits become (softmax - one-hot) * scale.
    """

def tanh(x: object, y: object, arch: object | None = None) -> None:
    """y = tanh(x), as the kernels compute it."""

def sigmoid(x: object, y: object, arch: object | None = None) -> None:
    """y = 1 / (1 + exp(-x)), as the kernels compute it."""
