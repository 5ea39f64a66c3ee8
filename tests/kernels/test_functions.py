"""tanh and σ: at most 4 ulp in float32 (all 2³² of them in the slow run), at most 2 ulp in float64, and right at the ends."""

import mpmath
import numpy as np
import pytest

from throughtime import _kernels

ARCHITECTURES = _kernels.architectures()
TRUTH = {
    "tanh": np.tanh,
    "sigmoid": lambda x: np.where(x >= 0, 1, np.exp(np.minimum(x, 0))) / (1 + np.exp(-np.abs(x))),
}


def of_kernel(name: str, x: np.ndarray, arch: str) -> np.ndarray:
    y = np.empty_like(x)
    getattr(_kernels, name)(x, y, arch)
    return y


def ulps(got: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The distance in units of the last place of the rounded truth."""
    spacing = np.spacing(np.abs(truth).astype(got.dtype)).astype(truth.dtype)
    return np.abs(got.astype(truth.dtype) - truth) / spacing


def worst_float32(name: str, bits: np.ndarray, arch: str) -> float:
    x = bits.view(np.float32)
    x = x[np.isfinite(x)]
    with np.errstate(under="ignore", over="ignore"):
        return float(ulps(of_kernel(name, x, arch), TRUTH[name](x.astype(np.float64))).max(initial=0))


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("name", TRUTH)
def test_float32_sampled(name, arch):
    random = np.random.default_rng(0).integers(0, 2**32, 300_000, dtype=np.uint64).astype(np.uint32)
    near = np.linspace(-110, 110, 300_001, dtype=np.float32).view(np.uint32)
    small = np.geomspace(1e-38, 12, 200_000, dtype=np.float32).view(np.uint32)
    for bits in (random, near, small, small | np.uint32(2**31)):
        assert worst_float32(name, bits, arch) <= 4


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("name", TRUTH)
def test_float32_every_number(name, arch):
    step = 2**24
    assert max(worst_float32(name, np.arange(k, k + step, dtype=np.uint64).astype(np.uint32), arch) for k in range(0, 2**32, step)) <= 4


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("name", TRUTH)
def test_float64_sampled(name, arch):
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(size=1200), rng.uniform(-40, 40, 800), rng.uniform(-745, 0, 200), np.geomspace(1e-300, 1, 300)])
    x = np.concatenate([x, -x])
    y = of_kernel(name, x, arch)
    with mpmath.workprec(160):
        exact = [mpmath.tanh(v) if name == "tanh" else 1 / (1 + mpmath.exp(-mpmath.mpf(v))) for v in map(mpmath.mpf, x.tolist())]
        errors = [
            abs(mpmath.mpf(got) - want) / mpmath.mpf(float(np.spacing(abs(float(want)))))
            for got, want in zip(y.tolist(), exact, strict=True)
        ]
    assert max(errors) <= 2


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_ends(dtype, arch):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, tiny, -tiny, 1e30, -1e30], dtype)
    t = of_kernel("tanh", x, arch)
    np.testing.assert_array_equal(t, np.array([0, -0.0, 1, -1, np.nan, tiny, -tiny, 1, -1], dtype))
    assert not np.signbit(t[0])
    assert np.signbit(t[1])
    s = of_kernel("sigmoid", x, arch)
    np.testing.assert_array_equal(s, np.array([0.5, 0.5, 1, 0, np.nan, 0.5, 0.5, 1, 0], dtype))
