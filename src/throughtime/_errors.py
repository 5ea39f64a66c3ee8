"""The package's two kinds of error. This file imports nothing of torch, so that the command reports a wrong flag at once."""


class InputError(ValueError):
    """An input that cannot be used. The message is one sentence: got, expected, remedy.

    The command prints it and exits with code 2; in Python it is a ``ValueError``.

    >>> import throughtime as tt
    >>> try:
    ...     tt.gradients.TruncatedBPTT(0)
    ... except tt.InputError as error:
    ...     print(error)
    k1 is 0; expected an integer from 1 to 2,147,483,647.
    """


class NonFinite(ArithmeticError):
    """A loss or gradient is no longer finite. The message says at which step, and which tensor was the first.

    >>> issubclass(NonFinite, ArithmeticError)
    True
    """
