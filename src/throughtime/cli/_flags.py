"""Dataclasses to flags, alike for every verb: a field is a flag, its docstring the help, its default the default.

A field that is itself a dataclass is a group of flags. What is typed wrong raises InputError: got, expected, remedy.
"""

import ast
import difflib
import inspect
import re
import shutil
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar, final

from .._errors import InputError
from ..training.flag import Flag

Options = TypeVar("Options")

_COLUMN = 26  # where the help's sentences begin, if there is room


class Help(Exception):
    """Somebody asked for help: ``str`` is the text."""


def parse(options: type[Options], arguments: Sequence[str], prog: str, description: str, default: Options | None = None) -> Options:
    """The options that a user typed.

    Args:
        options: a dataclass.
        arguments: the words after the verb.
        prog: the program and the verb, as typed.
        description: what the help says first.
        default: what holds where a flag is not given; None: the class's own defaults.

    Raises:
        InputError: a flag that is none, a value that cannot be read, a positional that is missing or too many.
        Help: --help or --help-all is among the words.
    """
    entries = list(entries_of(options, default))
    if wanted := {"-h", "--help", "--help-all"} & set(arguments[: _end_of_flags(arguments)]):
        raise Help(_help(entries, prog, description, everything="--help-all" in wanted))
    return _made(options, default, _read_all(entries, arguments, prog))


def flag_names(options: type) -> dict[str, str]:
    """What is typed for each field."""
    return {entry.field.name: entry.name for entry in entries_of(options)}


@final
@dataclass(frozen=True)
class Entry:
    """One flag or positional."""

    field: Field[Any]
    group: type
    path: tuple[str, ...]  # of the fields that lead to it
    kinds: tuple[Any, ...]  # the types that its value may have, None left out
    many: bool  # it takes a row of values
    flag: Flag
    default: Any  # MISSING: it must be given

    @property
    def name(self) -> str:
        """As typed."""
        return self.metavar if self.flag.positional else self.flag.name or f"--{self.field.name.replace('_', '-')}"

    @property
    def switch(self) -> bool:
        """Whether it takes no value."""
        return self.kinds == (bool,)

    @property
    def sentence(self) -> str:
        """Its help."""
        return _docstrings(self.group).get(self.field.name, self.metavar)

    @property
    def metavar(self) -> str:
        return self.flag.metavar or (self.field.name.upper() if self.flag.positional else _metavar(self.kinds[0]))


def entries_of(options: type, default: Any = None, path: tuple[str, ...] = ()) -> Iterator[Entry]:
    """Every flag and positional of a dataclass, and of the dataclasses that are its fields."""
    hints = typing.get_type_hints(options, include_extras=True)
    for field in fields(options):
        given = _default(field) if default is None else getattr(default, field.name)
        if is_dataclass(hints[field.name]):
            yield from entries_of(typing.cast(type, hints[field.name]), None if given is MISSING else given, (*path, field.name))
        elif not (entry := _entry(options, field, hints[field.name], given, path)).flag.hidden:
            yield entry


def _entry(options: type, field: Field[Any], hint: Any, default: Any, path: tuple[str, ...]) -> Entry:
    flag = Flag()
    if typing.get_origin(hint) is Annotated:
        hint, *notes = typing.get_args(hint)
        flag = next((note for note in notes if isinstance(note, Flag)), flag)
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    many = flag.read is None and typing.get_origin(kinds[0]) is tuple
    return Entry(field, options, path, (typing.get_args(kinds[0])[0],) if many else kinds, many, flag, default)


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _metavar(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return "{" + ",".join(map(str, typing.get_args(kind))) + "}"
    return {int: "N", float: "X", str: "WORD", Path: "FILE"}.get(kind, "VALUE")


def _end_of_flags(arguments: Sequence[str]) -> int:
    """Where ``--`` says that the rest are no flags."""
    return list(arguments).index("--") if "--" in arguments else len(arguments)


def _read_all(entries: Sequence[Entry], arguments: Sequence[str], prog: str) -> dict[tuple[str, ...], Any]:
    """What was typed, by the path of its field."""
    named = {entry.name: entry for entry in entries if not entry.flag.positional}
    found: dict[tuple[str, ...], Any] = {}
    bare: list[str] = []
    end = _end_of_flags(arguments)
    words = list(arguments[:end])
    while words:
        word = words.pop(0)
        if not word.startswith("-") or word == "-":
            bare.append(word)
            continue
        name, equals, value = word.partition("=")
        entry, on = _named(named, name, prog)
        if entry.switch:
            if equals:
                raise InputError(f"{name} is given a value, {value!r}; expected none. Leave {word.removeprefix(name)} out.")
            found[*entry.path, entry.field.name] = on
        else:
            given = [value] if equals else _values(entry, words)
            read = tuple(_read(entry, typed) for typed in given)
            found[*entry.path, entry.field.name] = read if entry.many else read[0]
    return found | _positionals(entries, bare + list(arguments[end + 1 :]), prog)


def _named(named: Mapping[str, Entry], typed: str, prog: str) -> tuple[Entry, bool]:
    """The flag of a name, and whether it is switched on."""
    name = typed.replace("_", "-")
    if name in named:
        return named[name], True
    positive = "--" + name.removeprefix("--no-")
    if name.startswith("--no-") and positive in named and named[positive].switch:
        return named[positive], False
    near = difflib.get_close_matches(name, named, 1, 0.6)
    raise InputError(
        f"{typed!r} is no flag of {prog}; expected {f'perhaps {near[0]}' if near else 'one of those that it has'}. "
        f"List them: {prog} --help-all"
    )


def _values(entry: Entry, words: list[str]) -> list[str]:
    """The words that follow a flag, taken away: one, or as many as there are before the next flag."""
    taken: list[str] = []
    while words and (entry.many or not taken) and not _is_flag(words[0]):
        taken.append(words.pop(0))
    if not taken:
        raise InputError(f"{entry.name} is given without a value; expected {_wanted(entry)}. Such as: {_example(entry)}")
    return taken


def _is_flag(word: str) -> bool:
    """A negative number is none, and a single dash stands for the standard input."""
    return re.match(r"--[A-Za-z]|-h$", word) is not None


def _positionals(entries: Sequence[Entry], words: list[str], prog: str) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    places = [entry for entry in entries if entry.flag.positional]
    for entry in places:
        taken, words = (words, []) if entry.many else (words[:1], words[1:])
        if taken:
            read = tuple(_read(entry, word) for word in taken)
            found[*entry.path, entry.field.name] = read if entry.many else read[0]
        elif entry.default is MISSING:
            raise InputError(f"{entry.name} is missing; expected {entry.sentence[0].lower()}{entry.sentence[1:-1]}. {_usage(places, prog)}")
    if words:
        expected = f"{' '.join(e.name for e in places)} and flags" if places else "flags alone"
        raise InputError(f"{words[0]!r} is one argument too many; expected {expected}. {_usage(places, prog)}")
    return found


def _usage(places: Sequence[Entry], prog: str) -> str:
    return f"Usage: {' '.join((prog, *(e.name for e in places)))} [FLAGS]"


def _read(entry: Entry, word: str) -> Any:
    readers = [entry.flag.read] if entry.flag.read is not None else [_reader(kind) for kind in entry.kinds]
    for reader in readers:
        try:
            return reader(word)
        except (ValueError, OverflowError):
            continue
    near = difflib.get_close_matches(word, words_of(entry), 1, 0.6)
    raise InputError(
        f"{entry.name} is {word!r}; expected {_wanted(entry)}. " + (f"Perhaps {near[0]!r}?" if near else f"Such as: {_example(entry)}")
    )


def _reader(kind: Any) -> Callable[[str], Any]:
    if typing.get_origin(kind) is typing.Literal:
        return _one_of(typing.get_args(kind))
    return {int: _integer, Path: _path}.get(kind, kind)


def _one_of(choices: tuple[Any, ...]) -> Callable[[str], Any]:
    def read(word: str) -> Any:
        if word not in choices:
            raise ValueError(word)
        return word

    return read


def _integer(word: str) -> int:
    """An integer, 1e6 and 10_000 too."""
    try:
        return int(word)
    except ValueError:
        number = float(word)
        if not number.is_integer():
            raise ValueError(word) from None
        return int(number)


def _path(word: str) -> Path:
    if not word or "\0" in word:
        raise ValueError(word)
    return Path(word)


def words_of(entry: Entry) -> list[str]:
    """The values that a flag may have, where they are a few words."""
    return [*entry.flag.offered] + [
        str(c) for kind in entry.kinds if typing.get_origin(kind) is typing.Literal for c in typing.get_args(kind)
    ]


def _wanted(entry: Entry) -> str:
    if entry.flag.wanted:
        return entry.flag.wanted
    if words := words_of(entry):
        return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
    return {int: "an integer", float: "a number", Path: "a path", str: "a word"}.get(entry.kinds[0], "a value")


def _example(entry: Entry) -> str:
    if entry.default not in (MISSING, None, ()):
        return f"{entry.name} {_shown(entry, entry.default)}"
    usual = {int: "10", float: "0.5", Path: "file"}.get(entry.kinds[0], entry.metavar)
    if entry.flag.positional:
        return (words_of(entry) or [usual])[0]
    return f"{entry.name} {(words_of(entry) or [usual])[0]}"


def _shown(entry: Entry, value: Any) -> str:
    if entry.flag.show is not None:
        return entry.flag.show(value)
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _made(options: type[Options], default: Options | None, found: Mapping[tuple[str, ...], Any]) -> Options:
    """The dataclass with what was found put in."""
    here = {path[0]: value for path, value in found.items() if len(path) == 1}
    for field in fields(typing.cast(Any, options)):
        inside = {path[1:]: value for path, value in found.items() if path[0] == field.name and len(path) > 1}
        if inside:
            below = _default(field) if default is None else getattr(default, field.name)
            here[field.name] = _made(type(below), below, inside)
    return options(**here) if default is None else replace(typing.cast(Any, default), **here)


def _help(entries: Sequence[Entry], prog: str, description: str, *, everything: bool) -> str:
    width = min(shutil.get_terminal_size().columns, 110)
    places = [entry for entry in entries if entry.flag.positional]
    parts = ["\n".join(_filled(_usage(places, prog), width)), *("\n".join(_filled(p, width)) for p in description.split("\n\n"))]
    shown = [entry for entry in entries if everything or not entry.flag.rare]
    for group in dict.fromkeys(entry.group for entry in shown):
        rows = [_row(entry, width) for entry in shown if entry.group is group]
        title = _title(group) if any(entry.path for entry in shown if entry.group is group) else "flags"
        parts.append("\n".join([f"{title}:", *rows]))
    if len(shown) < len(entries):
        parts.append("\n".join(_filled(f"{len(entries) - len(shown)} rarer flags: {prog} --help-all", width)))
    return "\n\n".join(parts)


def _title(group: type) -> str:
    """The first sentence of a group's docstring."""
    return (inspect.getdoc(group) or group.__name__).partition("\n")[0].rstrip(".").lower()


def _row(entry: Entry, width: int) -> str:
    """A flag, its value, and its sentence: side by side, or below it where the terminal is narrow."""
    head = f"  {entry.name}" + ("" if entry.switch or entry.flag.positional else f" {entry.metavar}")
    indent = " " * (_COLUMN if width >= 60 else 4)
    body = textwrap.wrap(f"{entry.sentence} {_behaviour(entry)}".strip(), max(16, width - len(indent)))
    if len(head) < len(indent) - 1 and body:
        head, body = head.ljust(len(indent)) + body[0], body[1:]
    return "\n".join([*_filled(head, width, "      "), *(indent + line for line in body)])


def _filled(text: str, width: int, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, max(20, width), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or [""]


def _behaviour(entry: Entry) -> str:
    if entry.flag.unless:
        return f"(unless given: {entry.flag.unless})"
    if entry.switch or entry.default in (MISSING, None, ()):
        return ""
    return f"(unless given: {_shown(entry, entry.default)})"


@cache
def _docstrings(group: type) -> dict[str, str]:
    """The strings below a dataclass's fields, its bases' too; none where the source is not there."""
    inherited = {name: text for base in reversed(group.__bases__) if is_dataclass(base) for name, text in _docstrings(base).items()}
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(group))).body
    except (OSError, TypeError, ValueError):
        return inherited
    body = typing.cast(ast.ClassDef, tree).body
    return inherited | {
        field.target.id: inspect.cleandoc(text.value.value).replace("\n", " ")
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


def print_help(asked: Help) -> None:
    """To the standard output."""
    sys.stdout.write(f"{asked}\n")
