"""The two errors that a user meets. Nothing of torch is imported here: a wrong flag is told at once."""


class InputError(ValueError):
    """Something a user gave cannot be used. The message is one sentence: got, expected, remedy.

    The command prints it and exits with code 2; in Python it is a ``ValueError``.
    """


class NonFinite(ArithmeticError):
    """A loss or gradient stopped being a finite number; the message says at which step and which tensor went first."""
