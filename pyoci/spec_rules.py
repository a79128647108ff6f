"""The kinds of rule of which pyoci.spec_tables is made.

A rule is a function: value -> None when it is valid, else a list of problems, each
(parts of the JSON pointer below the value, what is wrong, hint).  Pointers are put
together on the way out of a failure only: a valid config costs type checks and nothing else.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Problem = tuple[tuple[str | int, ...], str, str]
    Found = list[Problem] | None
    Rule = Callable[[Any], Found]

MAX_FAULTS = 100  # no one reads more; bounds time and memory on a hostile config


def bad(message: str, hint: str = "") -> list[Problem]:
    """One problem with the value itself."""
    return [((), message, hint)]


def at(*parts: str | int, message: str, hint: str = "") -> list[Problem]:
    """One problem with a part of the value."""
    return [(parts, message, hint)]


def under(part: str | int, problems: list[Problem], found: Found) -> list[Problem]:
    """found with the problems of one part of the value."""
    found = found or []
    found += [((part, *parts), message, hint) for parts, message, hint in problems]
    return found


# -- words -----------------------------------------------------------------------------------

_KINDS = {dict: "an object", list: "an array", str: "a string", int: "an integer", float: "a number with a fraction"}


def kind(value: object) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    return _KINDS.get(type(value)) or str(value).lower()


def show(value: object) -> str:
    """A value as it reads in an error: quoted, one line, not long."""
    if isinstance(value, int) and abs(value) >> 128:
        return "a number that large"
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= 80 else text[:76] + "..." + text[:1] * isinstance(value, str)


def closest(word: str, known: Iterable[str]) -> str:
    """Of the known words the one that word may have been meant to be, or ""."""
    import difflib

    folded = {name.lower(): name for name in known}
    matches = difflib.get_close_matches(word.lower()[:100], folded, 1, 0.7)
    return folded[matches[0]] if matches else ""


def mean(word: str, known: Iterable[str]) -> str:
    """The hint of a misspelt word, or ""."""
    match = closest(word, known)
    return f"did you mean {match}?" if match else ""


def wrong_kind(expected: str, value: object) -> list[Problem]:
    hint = "leave it out" if value is None else ""
    return bad(f"must be {expected}, not {kind(value)}", hint)


# -- scalars ---------------------------------------------------------------------------------


def boolean(value: Any) -> Found:
    return None if value is True or value is False else wrong_kind("true or false", value)


def integer(low: int, high: int) -> Rule:
    """An integer in low..high: true is none, nor is 1.0."""

    def check(value: Any) -> Found:
        if type(value) is int and low <= value <= high:
            return None
        return _wrong_integer(value, low, high)

    return check


def _wrong_integer(value: Any, low: int, high: int) -> list[Problem]:
    if type(value) is int:
        return bad(f"must be in {low}..{high}, not {show(value)}")
    hint = ""
    if type(value) is float and value.is_integer() and low <= value <= high:
        hint = f"write {int(value)}"
    elif type(value) is str and len(value) < 20 and value.isascii() and value.isdigit():
        hint = f"write {int(value)} without quotes"
    elif value is None:
        hint = "leave it out"
    return bad(f"must be an integer, not {kind(value)}", hint)


u16 = integer(0, 0xFFFF)
u32 = integer(0, 0xFFFFFFFF)
u64 = integer(0, 0xFFFFFFFFFFFFFFFF)
i64 = integer(-1 << 63, (1 << 63) - 1)
limit = integer(-1, (1 << 63) - 1)  # -1: no limit


def text(value: Any) -> Found:
    """A string for the kernel: without NUL."""
    if type(value) is not str:
        return wrong_kind("a string", value)
    return bad("must not contain NUL") if "\0" in value else None


def word(value: Any) -> Found:
    """A string without control characters: for what ends up in a line of a file or a log."""
    if type(value) is not str:
        return wrong_kind("a string", value)
    if value.isprintable() or not any(c < " " or c == "\x7f" for c in value):
        return None
    return bad(f"must not contain control characters, as {show(value)} does")


def no_newline(value: Any) -> Found:
    """A string that may be a path: neither NUL nor newline."""
    if type(value) is not str:
        return wrong_kind("a string", value)
    if "\0" in value or "\n" in value:
        return bad(f"must not contain NUL or newline, as {show(value)} does")
    return None


def path(value: Any) -> Found:
    """A path, absolute or relative."""
    return no_newline(value) if value else bad("must not be empty") if value == "" else wrong_kind("a string", value)


def absolute(value: Any) -> Found:
    """An absolute path."""
    found = path(value)
    if found or value[0] == "/":
        return found
    return bad(f"must be an absolute path, not {show(value)}", f"write /{value}" if len(value) < 80 else "")


def enum(*known: str) -> Rule:
    """One of the known words."""
    words = frozenset(known)

    def check(value: Any) -> Found:
        if type(value) is str and value in words:
            return None
        if type(value) is not str:
            return wrong_kind("a string", value)
        if len(known) > 9:
            return bad(f"is {show(value)}, which is none of its {len(known)} values", mean(value, known))
        return bad(f"must be one of {', '.join(known)}; not {show(value)}", mean(value, known))

    return check


# -- objects and arrays ----------------------------------------------------------------------


def obj(must: str = "", also: Rule | None = None, /, **fields: Rule) -> Rule:
    """An object.  must: the required names.  fields: the rule of each; others are ignored (row L23).

    also: a rule for the whole object, asked of its valid parts.
    """
    required = must.split()
    find = fields.get

    def check(value: Any) -> Found:
        if type(value) is not dict:
            return wrong_kind("an object", value)
        found: Found = None
        for name, item in value.items():
            rule = find(name)
            if rule is not None:
                problems = rule(item)
                if problems:
                    found = under(name, problems, found)
        for name in required:
            if name not in value:
                found = (found or []) + at(name, message="is required", hint=_misspelt(name, value, fields))
        if also is None:
            return found
        return _across(also, value, found) if found else also(value)

    return check


def _across(also: Rule, value: Any, found: list[Problem]) -> list[Problem]:
    from pyoci import spec_across

    return spec_across.ask(also, value, found)


def _misspelt(name: str, value: dict[str, Any], fields: dict[str, Rule]) -> str:
    match = closest(name, [key for key in value if key not in fields])
    return f"{show(match)} is not known: was it meant to be {name}?" if match else ""


def mapping(rule: Rule, key: Rule, also: Rule | None = None) -> Rule:
    """An object with free names: a rule for each name, one for each value, one for the whole."""

    def check(value: Any) -> Found:
        if type(value) is not dict:
            return wrong_kind("an object", value)
        found: Found = None
        for name, item in value.items():
            problems = key(name) or rule(item)
            if problems:
                found = under(name, problems, found)
                if len(found) >= MAX_FAULTS:
                    break
        if also is None:
            return found
        return _across(also, value, found) if found else also(value)

    return check


def array(rule: Rule, also: Rule | None = None, least: int = 0, most: int = 1 << 63) -> Rule:
    """An array of least..most entries of one kind."""

    def check(value: Any) -> Found:
        if type(value) is not list:
            return wrong_kind("an array", value)
        if not least <= len(value) <= most:
            return bad(_wrong_length(value, most))
        found: Found = None
        for index, item in enumerate(value):
            problems = rule(item)
            if problems:
                found = under(index, problems, found)
                if len(found) >= MAX_FAULTS:
                    break
        if also is None:
            return found
        return _across(also, value, found) if found else also(value)

    return check


def _wrong_length(value: list[Any], most: int) -> str:
    if not value:
        return "must have at least one entry"
    return f"must have at most {most} entries, not {len(value)}" if most else "must be empty"


def strings(rule: Rule = text, forbidden: str = "\0", least: int = 0) -> Rule:
    """An array of strings.  Joined they are checked at once; only a failure looks at each.

    rule must refuse exactly the strings that contain one of the forbidden characters.
    """
    slow = array(rule, least=least)

    def check(value: Any) -> Found:
        if type(value) is list and len(value) >= least:
            try:
                joined = "".join(value)
            except TypeError:
                return slow(value)
            for char in forbidden:
                if char in joined:
                    return slow(value)
            return None
        return slow(value)

    return check
