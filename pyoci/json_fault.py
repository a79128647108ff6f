"""Where a JSON text is wrong, and what to do about it: loaded when pyoci.json has refused one."""

from __future__ import annotations

from pyoci import errors, json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn


def called(name: str) -> str:
    return f"{name}: invalid JSON: " if name else "invalid JSON: "


def fail(name: str, text: str, position: int, message: str, hint: str = "") -> NoReturn:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    raise errors.InvalidConfig(f"{called(name)}{message} at line {line} column {column}", hint=hint) from None


def hint(text: str, position: int) -> str:
    """What usually stands at a place that JSON does not know."""
    there = text[position : position + 2]
    before = text[:position].rstrip(json.SPACE)[-1:]
    if there[:1] in ("}", "]") and before == ",":
        return "remove the comma before it"
    if there[:1] == "'":
        return "strings are written in double quotes"
    if there in ("//", "/*") or there[:1] == "#":
        return "JSON has no comments"
    if there in ("Tr", "Fa", "No"):
        return "write true, false, null"
    return ""


def _tokens(text: str) -> Iterator[tuple[int, str, str]]:
    """(position, kind, value) of a JSON text that is well formed as far as it is asked for.

    kind is "{", "}", "name", "string" or "literal".
    """
    from json.decoder import scanstring  # type: ignore[attr-defined]

    position = 0
    while position < len(text):
        start, char = position, text[position]
        position += 1
        if char == '"':
            value, position = scanstring(text, position)
            while position < len(text) and text[position] in json.SPACE:
                position += 1
            yield start, "name" if text[position : position + 1] == ":" else "string", value
        elif char in "{}":
            yield start, char, ""
        elif char not in json.SPACE + "[],:":
            while position < len(text) and text[position] not in json.SPACE + "[]{},:":
                position += 1
            yield start, "literal", text[start:position]


def find_refused(text: str) -> tuple[int, str]:
    """Position and wording of what the scanner accepted and we do not."""
    names: list[set[str]] = []
    for position, kind, value in _tokens(text):
        if kind == "{":
            names.append(set())
        elif kind == "}":
            names.pop()
        elif kind == "literal":
            message = _refuse_literal(value)
            if message:
                return position, message
        elif any("\ud800" <= c <= "\udfff" for c in value):
            return position, "half of a surrogate pair"
        elif kind == "name":
            if value in names[-1]:
                return position, f'duplicate name "{value}"'
            names[-1].add(value)
    raise AssertionError("unreachable: the scanner refused nothing")


def _refuse_literal(literal: str) -> str:
    """What the scanner refused about a literal, "" when it is valid; garbage may follow in it."""
    for name in ("NaN", "Infinity", "-Infinity"):
        if literal.startswith(name):
            return f"{name} is not a JSON number"
    if literal in ("true", "false", "null"):
        return ""
    digits = literal.removeprefix("-")
    if len(digits) - len(digits.lstrip("0123456789")) > json.MAX_DIGITS:
        return "a number with too many digits"
    try:
        value = float(literal)
    except ValueError:  # all before what was refused is well formed: this is it
        value = float("inf")
    return "a number out of range" if value - value != 0.0 else ""
