"""Why a cell has no kernel of its own."""


class Refused(Exception):
    """A step that cannot be written as a kernel, or for which there is no compiler. The message is one sentence; the plain loop serves."""
