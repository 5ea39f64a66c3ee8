"""Numbers, words and values that nobody expects."""

import random
import string

NUMBERS = [-1, 0, 1, 2, 7, 2**31, 2**40, 2**63, 10**30, -(2**63), 0.5, 1e308, -1e-320, float("nan"), float("inf")]
WORDS = ["", " ", "\0", "../../escaped", "/proc/version", "nan", "inf", "1e999", "-0", "\uff10", "\u202e", "\ud7ff", "é" * 50]
WORDS += ["__class__", "os:system", "%s%n", "{0}", "lstm", "zzz"]


def number(rng: random.Random) -> float:
    return rng.choice(NUMBERS)


def word(rng: random.Random) -> str:
    return rng.choice([*WORDS, "".join(rng.choices(string.printable, k=rng.randint(1, 30)))])


def value(rng: random.Random, depth: int = 0) -> object:
    """Anything that JSON can say."""
    if depth < 3 and rng.random() < 0.2:
        inner = value(rng, depth + 1)
        return rng.choice([[inner] * rng.choice([0, 1, 3]), {word(rng): inner}])
    return rng.choice([None, True, False, number(rng), number(rng), word(rng), [], {}, [[[[[[]]]]]], "a" * 10_000])


def tree(whole: object, rng: random.Random) -> object:
    """JSON with a value, a name or a branch that is another."""
    if isinstance(whole, dict) and whole and rng.random() < 0.9:
        name = rng.choice(list(whole))
        match rng.randrange(8):
            case 0:
                return {k: v for k, v in whole.items() if k != name}
            case 1:
                return whole | {word(rng): value(rng)}
            case _:
                return whole | {name: tree(whole[name], rng)}
    if isinstance(whole, list) and whole and rng.random() < 0.7:
        at = rng.randrange(len(whole))
        return [*whole[:at], tree(whole[at], rng), *whole[at + 1 :]] if rng.random() < 0.8 else whole[:at]
    return value(rng)
