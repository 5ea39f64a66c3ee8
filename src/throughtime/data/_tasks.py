"""Synthetic tasks whose longest dependency is known, for comparing gradient methods.

T time · B batch · I input · V outputs. Every function draws from its ``generator`` only, and time starts at 0.
"""

import torch

from .. import _check
from ._batch import Batch


def adding(length: int, batch: int, generator: torch.Generator) -> Batch:
    """Add two marked numbers out of ``length``; one loss, at the last step.

    inputs (T, B, 2): x_t = (value, mark); values uniform on [0, 1); mark 1 at two steps, 0 elsewhere: the first uniform among
    0..⌊T/2⌋ − 1, the second among ⌊T/2⌋..T − 1. targets (T, B, 1): the sum of the two marked values, on every row. weights: 1 on the last
    row, 0 before. The constant answer 1 has an expected squared error of 1/6. Longest dependency: T steps.

    References: Hochreiter & Schmidhuber, *Long short-term memory*, 1997 (experiment 4), in the form of Le, Jaitly & Hinton,
    *A simple way to initialize recurrent networks of rectified linear units*, 2015.

    >>> task = adding(50, 4, torch.Generator().manual_seed(0))
    >>> bool(((task.inputs[..., 0] * task.inputs[..., 1]).sum(0) == task.targets[-1, :, 0]).all())
    True
    """
    T, B = _length(length, least=2), _check.positive("batch", batch)
    first = torch.randint(T // 2, (B,), generator=generator)
    second = torch.randint(T // 2, T, (B,), generator=generator)
    values, marks = torch.rand(T, B, generator=generator), torch.zeros(T, B)
    streams = torch.arange(B)
    marks[first, streams] = marks[second, streams] = 1
    total = (values[first, streams] + values[second, streams]).expand(T, B)
    return Batch(torch.stack((values, marks), 2), total.unsqueeze(2).contiguous(), weights=_only_the_last(T, B))


def delayed_addition(length: int, batch: int, generator: torch.Generator, *, lags: tuple[int, int] = (6, 10)) -> Batch:
    """Add two inputs from fixed numbers of steps ago, at every step of an endless stream.

    inputs (T, B, 1): x_t is 0 or 1, each with probability ½; x_t = 0 for t < 0. targets (T, B, 1):
    y_t = ½ + ½ x_{t−p} − ¼ x_{t−q}, (p, q) = ``lags``. A model of neither lag leaves a variance of 5/64, a model of the first alone 1/64.

    References: Pitis, *Recurrent neural networks in TensorFlow*, 2016, as used by Marschall, Cho & Savin, *A unified framework of
    online learning algorithms for training recurrent neural networks*, 2020 (§4).

    >>> task = delayed_addition(50, 4, torch.Generator().manual_seed(0))
    >>> x, y = task.inputs, task.targets
    >>> bool((y[10:] == 0.5 + 0.5 * x[4:-6] - 0.25 * x[:-10]).all())
    True
    """
    T, B = _length(length), _check.positive("batch", batch)
    near, far = (_check.positive("a lag", lag, remedy="Lags are in steps.") for lag in lags)
    xs = torch.randint(2, (T, B, 1), generator=generator).to(torch.get_default_dtype())

    def before(lag: int) -> torch.Tensor:
        return torch.cat((xs.new_zeros(min(lag, T), B, 1), xs[: max(0, T - lag)]))

    return Batch(xs, 0.5 + 0.5 * before(near) - 0.25 * before(far))


def copying(delay: int, batch: int, generator: torch.Generator, *, size: int = 10, symbols: int = 8) -> Batch:
    """Repeat a word of ``size`` symbols after ``delay`` steps; T = delay + 2·size; inputs and outputs have V = symbols + 2 values.

    inputs (T, B), indices: the word, uniform in 1..symbols; delay − 1 blanks (0); the signal to begin (symbols + 1); size blanks.
    targets (T, B): delay + size blanks; the word. Every step has a loss. A model without memory has a loss of size·ln(symbols)/T
    nats per step. Dependency: delay + size steps.

    References: Hochreiter & Schmidhuber 1997; this form is that of Arjovsky, Shah & Bengio, *Unitary evolution recurrent neural
    networks*, 2016 (§4.1).

    >>> task = copying(3, 1, torch.Generator().manual_seed(0), size=2)
    >>> task.inputs.T, task.targets.T
    (tensor([[5, 8, 0, 0, 9, 0, 0]]), tensor([[0, 0, 0, 0, 0, 5, 8]]))
    """
    B = _check.positive("batch", batch)
    delay, size, symbols = (_check.positive(name, n) for name, n in (("delay", delay), ("size", size), ("symbols", symbols)))
    T = delay + 2 * size
    word = torch.randint(1, symbols + 1, (size, B), generator=generator)
    inputs, targets = torch.zeros(T, B, dtype=torch.long), torch.zeros(T, B, dtype=torch.long)
    inputs[:size], inputs[size + delay - 1], targets[size + delay :] = word, symbols + 1, word
    return Batch(inputs, targets)


def temporal_order(length: int, batch: int, generator: torch.Generator) -> Batch:
    """Tell the order of two symbols, far from each other and from the end; one loss, at the last step.

    inputs (T, B), indices 0..5: A = 0 and B = 1 are the symbols, 2..5 are distractors. A or B, with probability ½ each, is at a
    step uniform among n..2n − 1, and again at one among 5n..6n − 1, n = ⌊T/10⌋. Every other step has a distractor, uniform. targets (T, B),
    on every row: first + 2·second, so AA 0, BA 1, AB 2, BB 3. weights: 1 on the last row, 0 before. Longest dependency: 0.9 T steps.

    References: Hochreiter & Schmidhuber 1997 (experiment 6a); positions scaled with T as in Pascanu, Mikolov & Bengio, *On the
    difficulty of training recurrent neural networks*, 2013 (§4.1.1), who count a sequence as right if its likeliest class is right.

    >>> task = temporal_order(50, 4, torch.Generator().manual_seed(0))
    >>> (task.inputs < 2).sum(0).tolist(), task.weights.sum(0).tolist()  # two symbols and one loss in each sequence
    ([2, 2, 2, 2], [1.0, 1.0, 1.0, 1.0])
    """
    T, B = _length(length, least=10), _check.positive("batch", batch)
    tenth, streams = T // 10, torch.arange(B)
    early = tenth + torch.randint(tenth, (B,), generator=generator)
    late = 5 * tenth + torch.randint(tenth, (B,), generator=generator)
    first, second = torch.randint(2, (2, B), generator=generator)
    inputs = torch.randint(2, 6, (T, B), generator=generator)
    inputs[early, streams], inputs[late, streams] = first, second
    return Batch(inputs, (first + 2 * second).expand(T, B).contiguous(), weights=_only_the_last(T, B))


def _length(length: int, *, least: int = 1) -> int:
    if _check.positive("length", length) < least:
        raise _check.InputError(f"length is {length}; expected at least {least}: this task has no shorter form. Make it longer.")
    return length


def _only_the_last(T: int, B: int) -> torch.Tensor:
    weights = torch.zeros(T, B)
    weights[-1] = 1
    return weights
