"""What a flag says of itself beside its name and type; it stands in the ``Annotated`` of an option's field."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final


@final
@dataclass(frozen=True)
class Flag:
    """How a field is typed at the shell.

    Attributes:
        metavar: what stands for its value in the help.
        unless: what holds where it is not given, if the default does not say it.
        rare: told by --help-all alone.
        positional: it has no name: the words without a flag are its values.
        read: from the word that was typed to the value; raises ValueError. None: as the field's type says.
        show: from the value to a word; None: ``str``.
        wanted: what ``read`` takes, in words.
        name: as typed, if it is not the field's.
        hidden: it is no flag; whoever makes the options gives it.
        offered: words that a shell completes, where the type does not say them.
    """

    metavar: str = ""
    unless: str = ""
    rare: bool = False
    positional: bool = False
    read: Callable[[str], Any] | None = None
    show: Callable[[Any], str] | None = None
    wanted: str = ""
    name: str = ""
    hidden: bool = False
    offered: tuple[str, ...] = ()
