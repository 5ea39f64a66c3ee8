"""The machine's C++ compiler, called once for a cell."""

import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path

from ._refused import Refused

_FLAGS = (
    "-std=c++20", "-O3", "-shared", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math",
    "-fno-exceptions", "-fno-rtti",
)  # fmt: skip
_ARCHITECTURES = {  # as CMakeLists.txt has them; the tag is that of csrc/simd.hpp
    "baseline": ("Baseline", ()),
    "avx2": ("Avx2", ("-mavx2", "-mfma")),
    "avx512": ("Avx512", ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma")),
    "neon": ("Neon", ()),
}
_LONGEST = 300  # seconds


def tag(arch: str) -> str:
    """An architecture's type in C++."""
    return _ARCHITECTURES[arch][0]


def compiler() -> list[str]:
    """The compiler's path: ``CXX``, and the words behind it there, or the first of c++, g++, clang++.

    Raises:
        Refused: there is none.
    """
    found = _found(os.environ.get("CXX", ""))
    if found is None:
        named = os.environ.get("CXX")
        raise Refused(
            f"there is no C++ compiler ({f'CXX names {named}, which is not there' if named else 'looked for c++, g++ and clang++'}), "
            "and a cell of one's own needs one at its first use; install g++ 11 or newer"
        )
    return found


@cache
def _found(named: str) -> list[str] | None:
    first, *words = named.split() or [""]
    names = [first] if first else ["c++", "g++", "clang++"]
    return next(([path, *words] for name in names if (path := shutil.which(name))), None)


def compiler_about() -> str:
    """The compiler, or that there is none."""
    try:
        return f"compiler {' '.join(compiler())}"
    except Refused as why:
        return str(why)


def identity(words: list[str]) -> str:
    """What tells one compiler from another without starting it: where the programs among its words are, how long, how old."""
    real = [Path(path).resolve() for word in words if not word.startswith("-") and (path := shutil.which(word))]
    about = [(path, path.stat()) for path in real]
    return f"{[(str(path), each.st_size, each.st_mtime_ns) for path, each in about]} {platform.machine()}"


def command(arch: str, headers: Path) -> list[str]:
    """The compiler and its flags, without files."""
    return [*compiler(), *_FLAGS, *_ARCHITECTURES[arch][1], f"-I{headers}"]


def compile_file(source: Path, result: Path, words: list[str]) -> None:
    """Compile one file.

    Raises:
        Refused: the compiler failed, was killed, or took too long.
    """
    whole = [*words, str(source), "-o", str(result), "-lm"]
    try:
        done = subprocess.run(whole, capture_output=True, text=True, timeout=_LONGEST, stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired:
        raise Refused(f"the compiler {words[0]} took longer than {_LONGEST} s") from None
    except OSError as error:
        raise Refused(f"the compiler {words[0]} cannot be run: {error.strerror or error}") from None
    if done.returncode < 0:
        raise Refused(f"the compiler {words[0]} was killed by signal {-done.returncode}")
    if done.returncode > 0 or not result.is_file():
        lines = done.stderr.splitlines()
        lines = [line for line in lines if "error" in line or "failed" in line] or lines or ["no word"]
        raise Refused(f"the compiler {words[0]} failed: {lines[0].strip()[:300]}")
