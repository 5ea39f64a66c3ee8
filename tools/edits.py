"""Edits of one line each, made from the source: an operator, a constant, a call or a slice of a line that computes something."""

import ast
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PYTHON = ("cells", "kernels", "nn", "models", "gradients", "flow", "data", "training")
# what computes nothing that a step depends on: pages and figures, files and flags
SHOWN = re.compile(
    r"__init__|report|_json|_page|_figure|_frame|_verdict|_onnx|_corpus|vocabulary|_files|_folder|_options|_watch|_export|_compile"
)
# what the kernels are bound, chosen and shared out by
HELD = re.compile(r"arrays|bindings|dispatch|kernels|parallel|simd|workspace|cell\.hpp")
EQUATION = re.compile(rb"(?:#|//).*\(\d+\w?\)")


@dataclass(frozen=True)
class Edit:
    """One line of one file, before and after."""

    file: str
    line: int
    before: str
    after: str


SWAPS = {"Add": "-", "Sub": "+", "Mult": "/", "Div": "*", "Lt": "<=", "LtE": "<", "Gt": ">=", "GtE": ">", "Eq": "!=", "NotEq": "=="}
SIGNS = {"Add": "+", "Sub": "-", "Mult": "*", "Div": "/", "Lt": "<", "LtE": "<=", "Gt": ">", "GtE": ">=", "Eq": "==", "NotEq": "!="}
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "tanh": "sigmoid", "zeros_like": "ones_like", "sqrt": "abs"}
DROPPED = {"sum", "transpose", "flip", "detach", "square", "sqrt", "abs", "exp", "log", "cumsum", "roll", "clamp", "neg"}
SLICES = {":-1": "1:", "1:": ":-1"}


def python_edits(file: str, source: bytes) -> Iterator[Edit]:
    """Edits of the expressions inside functions; none of messages, annotations, decorators or text."""
    lines = source.split(b"\n")
    for node in _computing(ast.parse(source)):
        if node.lineno == node.end_lineno:  # an edit of one line
            for start, end, new in _replacements(node, lines[node.lineno - 1]):
                yield _edit(file, lines, node.lineno, start, end, new.encode())


def _computing(tree: ast.AST, inside: bool = False) -> Iterator[ast.expr | ast.AugAssign]:
    for name, field in ast.iter_fields(tree):
        for node in field if isinstance(field, list) else [field]:
            if not isinstance(node, ast.AST) or isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr):
                continue
            if name in ("annotation", "returns", "decorator_list") or getattr(node, "name", "") == "__repr__" or _checks(node):
                continue
            if inside and isinstance(node, ast.expr | ast.AugAssign):
                yield node
            yield from _computing(node, inside or isinstance(node, ast.FunctionDef))


def _checks(node: ast.AST) -> bool:
    """A check of what a user gave, or zip's of its lengths: what they refuse has tests of its own text."""
    match node:
        case ast.Call(ast.Attribute(ast.Name("_check"))) | ast.keyword("strict"):
            return True
    return False


def _replacements(node: ast.AST, line: bytes) -> Iterator[tuple[int, int, str]]:
    """(first byte, byte after the last, new text) in the node's line."""
    match node:
        case ast.BinOp(left, op, right) if type(op).__name__ in SWAPS and not _text(left) and not _text(right):
            yield _operator(line, left.end_col_offset, right.col_offset, op)
        case ast.Compare(left, [op], [right]) if type(op).__name__ in SWAPS:
            yield _operator(line, left.end_col_offset, right.col_offset, op)
        case ast.AugAssign(target, ast.Add(), value):
            yield target.end_col_offset, value.col_offset, " -= "
        case ast.BoolOp(op, [left, right]):
            old, new = (b" and ", " or ") if isinstance(op, ast.And) else (b" or ", " and ")
            at = line.index(old, left.end_col_offset, right.col_offset)  # a side may stand in brackets
            yield at, at + len(old), new
        case ast.UnaryOp(ast.USub() | ast.Not() as op):
            yield node.col_offset, node.col_offset + (1 if isinstance(op, ast.USub) else 4), ""
        case ast.Constant(bool() as value):
            yield node.col_offset, node.end_col_offset, str(not value)
        case ast.Constant(int() | float() as value):
            yield node.col_offset, node.end_col_offset, repr(type(value)({0: 1, 1: 0}.get(value, value + 1)))
        case ast.Call(ast.Name(name)) if name in CALLS:
            yield node.col_offset, node.col_offset + len(name), CALLS[name]
        case ast.Call(ast.Name("reversed"), [inner]):
            yield node.col_offset, node.end_col_offset, line[inner.col_offset : inner.end_col_offset].decode()
        case ast.Call(ast.Attribute(value, name)) if name in DROPPED and not (
            isinstance(value, ast.Name) and value.id in ("torch", "math")
        ):
            yield node.func.end_col_offset - len(name) - 1, node.end_col_offset, ""
        case ast.Call(ast.Attribute(_, name)) if name in CALLS:
            yield node.func.end_col_offset - len(name), node.func.end_col_offset, CALLS[name]
        case ast.Attribute(value, "T" | "mT") if not (isinstance(value, ast.Name) and value.id in ("batch", "self")):
            yield value.end_col_offset, node.end_col_offset, ""
        case ast.Slice() if (new := SLICES.get(line[node.col_offset : node.end_col_offset].decode())) is not None:
            yield node.col_offset, node.end_col_offset, new
        case ast.IfExp(_, body, orelse):
            middle = line[body.end_col_offset : orelse.col_offset].decode()
            yield body.col_offset, orelse.end_col_offset, ast.unparse(orelse) + middle + ast.unparse(body)


def _text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr | ast.Tuple | ast.List) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _operator(line: bytes, start: int, end: int, op: ast.AST) -> tuple[int, int, str]:
    at = line.index(SIGNS[type(op).__name__].encode(), start, end)
    return at, at + len(SIGNS[type(op).__name__]), SWAPS[type(op).__name__]


CPP_RULES = [
    (rb" \+ ", b" - "), (rb" - ", b" + "), (rb" \* ", b" + "), (rb" / ", b" * "), (rb" < ", b" <= "), (rb" <= ", b" < "),
    (rb" > ", b" >= "), (rb" \+= ", b" = "), (rb" && ", b" || "), (rb"(?<=[(\[ ])0(?=[,;)\]])", b"1"),
    (rb"(?<=[(\[ ])1(?=[,;)\]]| -)", b"0"), (rb"\bmin\b(?=\()", b"max"), (rb"\bmax\b(?=\()", b"min"), (rb"\btrue\b", b"false"),
    (rb"d_tanh\b", b"d_sigmoid"), (rb"d_sigmoid\b", b"d_tanh"), (rb"(?<![\w_])!(?=\w)", b""), (rb"(?<=[=(,] )-(?=\w)", b""),
]  # fmt: skip
CPP_DEAD = re.compile(rb"^\s*(#|template|using|static_assert|//|\*|namespace)|constexpr|operator|prefetch")


def cpp_edits(file: str, source: bytes) -> Iterator[Edit]:
    lines = source.split(b"\n")
    for number, line in enumerate(lines, 1):
        code = line.split(b"//")[0]
        if not CPP_DEAD.search(code):
            for pattern, new in CPP_RULES:
                for found in re.finditer(pattern, code):
                    yield _edit(file, lines, number, *found.span(), new)


def _edit(file: str, lines: list[bytes], number: int, start: int, end: int, new: bytes) -> Edit:
    line = lines[number - 1]
    return Edit(file, number, line.decode(), (line[:start] + new + line[end:]).decode())


def candidates(tree: Path, seed: int, only: str) -> tuple[list[Edit], list[Edit]]:
    """Edits of Python and of C++, in the order in which they are tried: a file's turn comes once a round."""
    source = tree / "src" / "throughtime"
    python = [f for room in PYTHON for f in sorted((source / room).rglob("*.py")) if not SHOWN.search(str(f.relative_to(source)))]
    cpp = [f for f in sorted((tree / "csrc").rglob("*.hpp")) if not HELD.search(str(f.relative_to(tree / "csrc")))]
    return _dealt(tree, python, python_edits, seed, only), _dealt(tree, cpp, cpp_edits, seed, only)


def _dealt(tree: Path, files: list[Path], edits_of, seed: int, only: str) -> list[Edit]:
    hands = []
    for file in files:
        name, text = str(file.relative_to(tree)), file.read_bytes()
        hand = sorted(set(edits_of(name, text)), key=lambda e: (e.line, e.after)) if re.search(only, name) else []
        chance = random.Random(f"{seed} {name}")
        chance.shuffle(hand)
        numbered = {i for i, line in enumerate(text.split(b"\n"), 1) if EQUATION.search(line)}
        hand.sort(key=lambda e: e.line not in numbered)
        hands.append(list({e.line: e for e in reversed(hand)}.values())[::-1])  # one edit a line
    random.Random(seed).shuffle(hands)
    return [hand[turn] for turn in range(max(map(len, hands), default=0)) for hand in hands if turn < len(hand)]
