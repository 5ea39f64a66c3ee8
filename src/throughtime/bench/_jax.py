"""JAX as a contestant: jit(grad(scan)) of one recurrent layer, in a process that is bound to as many cores as it may have threads."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Step(NamedTuple):
    """One step as a line of JAX: from ``wx`` and ``rh`` (B, G, H), the states ``s`` and the cell's vectors ``v`` it makes the new ``s``."""

    line: str
    states: int = 1


STEPS = {
    "rnn": Step("s = (jnp.tanh(wx[:, 0] + rh[:, 0]),)"),
    "mgu": Step("f = sig(wx[:, 0] + rh[:, 0]); s = ((1 - f) * s[0] + f * jnp.tanh(wx[:, 1] + f * rh[:, 1]),)"),
    "gru": Step(
        "r, z = sig(wx[:, 0] + rh[:, 0]), sig(wx[:, 1] + rh[:, 1]); n = jnp.tanh(wx[:, 2] + r * rh[:, 2]); s = ((1 - z) * n + z * s[0],)"
    ),
    "lstm": Step("a = wx + rh; c = sig(a[:, 1]) * s[1] + sig(a[:, 0]) * jnp.tanh(a[:, 2]); s = (sig(a[:, 3]) * jnp.tanh(c), c)", states=2),
}
PROGRAM = """
import sys, time, jax, jax.numpy as jnp, numpy as np
states, a, sig = int(sys.argv[1]), np.load(sys.argv[2]), jax.nn.sigmoid
xs, dhs, p = a["xs"], a["dhs"], tuple(a[k] for k in ("W", "R", "b_ih", "b_hh", "v") if k in a)
def run(xs, p):
    W, R, b_ih, b_hh, *v = p
    v = v[0] if v else ()
    wxs = jnp.einsum("tbi,ghi->tbgh", xs, W) + b_ih
    def step(s, wx):
        rh = jnp.einsum("bk,ghk->bgh", s[0], R) + b_hh
        STEP
        return s, s[0]
    zero = jnp.zeros((xs.shape[1], R.shape[-1]), jnp.float32)
    return jax.lax.scan(step, (zero,) * states, wxs)[1]
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

    Args:
        step: the cell's.
        arrays: xs (T, B, I), dhs (T, B, H), W, R, b_ih, b_hh with the gate axis, and v (P, H) of a cell with vectors of its own.
        threads: so many cores it may use.
        folder: for the arrays.

    Raises:
        RuntimeError: JAX did not start; its last words.
    """

    def __init__(self, step: Step, arrays: Mapping[str, np.ndarray], threads: int, folder: Path) -> None:
        file = folder / "arrays.npz"
        np.savez(file, **dict(arrays))  # pyright: ignore[reportArgumentType] none of them is allow_pickle
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROGRAM.replace("STEP", step.line), str(step.states), str(file)],
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
