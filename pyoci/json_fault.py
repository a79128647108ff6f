"""Where a JSON text is wrong, and what to do about it: loaded when pyoci.json has refused one."""

from __future__ import annotations

from pyoci import errors, json

TYPE_CHECKING = False
if TYPE_CHECKING:
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


# Values that are never refused, many at once: so the C of `re` finds what is late in a large text.
# Not more than a thousand: it keeps a record of each.
_HARMLESS = r'((?:(?:"[^"\\]*"|-?[0-9]{1,15}|{[ \t\n\r]*}|true|false|null)[ \t\n\r]*[],][][, \t\n\r]*){1,1000})'
_TOKEN = _HARMLESS + r'|["{}]|[^][{}",: \t\n\r]+'


def find_refused(text: str) -> tuple[int, str]:
    """Position and wording of what the scanner accepted and we do not.  All before it is well formed."""
    import re
    from json.decoder import scanstring  # type: ignore[attr-defined]

    search, colon = re.compile(_TOKEN).search, re.compile(r"[ \t\n\r]*:").match
    names: list[set[str]] = []
    position = 0
    while found := search(text, position):
        start, position = found.span()
        char = text[start]
        if found[1]:
            continue
        if char == "{":
            names.append(set())
        elif char == "}":
            names.pop()
        elif char != '"':
            message = _refuse_literal(found[0])
            if message:
                return start, message
        else:
            value, position = scanstring(text, position)
            if not value.isascii() and re.search("[\ud800-\udfff]", value):
                return start, "half of a surrogate pair"
            if colon(text, position):
                if value in names[-1]:
                    return start, f'duplicate name "{value}"'
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
