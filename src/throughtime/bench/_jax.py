"""JAX as a contestant: jit(grad(scan)) of one recurrent layer, in a process that is bound to as many cores as it may have threads."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np

PROGRAM = """
import sys, time, jax, jax.numpy as jnp, numpy as np
cell, file = sys.argv[1:]
a = np.load(file)
xs, dhs, p = a["xs"], a["dhs"], tuple(a[k] for k in ("W", "R", "b_ih", "b_hh"))
def run(xs, p):
    W, R, b_ih, b_hh = p
    wxs = jnp.einsum("tbi,ghi->tbgh", xs, W) + b_ih
    def step(s, wx):
        rh = jnp.einsum("bk,ghk->bgh", s[0], R) + b_hh
        if cell == "rnn":
            s = (jnp.tanh(wx[:, 0] + rh[:, 0]),)
        elif cell == "mgu":
            f = jax.nn.sigmoid(wx[:, 0] + rh[:, 0])
            s = ((1 - f) * s[0] + f * jnp.tanh(wx[:, 1] + f * rh[:, 1]),)
        elif cell == "gru":
            r, z = (jax.nn.sigmoid(wx[:, k] + rh[:, k]) for k in (0, 1))
            n = jnp.tanh(wx[:, 2] + r * rh[:, 2])
            s = ((1 - z) * n + z * s[0],)
        else:
            i, f, o = (jax.nn.sigmoid(wx[:, k] + rh[:, k]) for k in (0, 1, 3))
            c = f * s[1] + i * jnp.tanh(wx[:, 2] + rh[:, 2])
            s = (o * jnp.tanh(c), c)
        return s, s[0]
    zero = jnp.zeros((xs.shape[1], R.shape[-1]), jnp.float32)
    return jax.lax.scan(step, (zero, zero)[: 2 if cell == "lstm" else 1], wxs)[1]
both = jax.jit(jax.grad(lambda xs, p: (run(xs, p) * dhs).sum(), (0, 1)))
xs, p = jax.device_put(xs), jax.device_put(p)
jax.block_until_ready(both(xs, p))
print("ready", flush=True)
for line in sys.stdin:
    n = int(line)
    start = time.perf_counter()
    for _ in range(n):
        jax.block_until_ready(both(xs, p))
    print((time.perf_counter() - start) / n, flush=True)
"""


def installed() -> bool:
    return find_spec("jax") is not None


class Jax:
    """A process that waits for a number of calls, and answers with the seconds of one.

    Raises:
        RuntimeError: JAX did not start; its last words.
    """

    def __init__(self, cell: str, arrays: Mapping[str, np.ndarray], threads: int, folder: Path) -> None:
        file = folder / "arrays.npz"
        np.savez(file, **dict(arrays))  # pyright: ignore[reportArgumentType] none of them is allow_pickle
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROGRAM, cell, str(file)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu"}, preexec_fn=_bound(threads),
        )  # fmt: skip
        if self._line() != "ready":
            assert self.process.stderr is not None
            raise RuntimeError(f"JAX did not start: {self.process.stderr.read()[-300:]}")

    def seconds(self, calls: int) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{calls}\n")
        self.process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def _bound(threads: int) -> Callable[[], None] | None:
    """Called in the new process. Systems that cannot bind a process leave it to JAX."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))[:threads]
    return lambda: os.sched_setaffinity(0, cores)
