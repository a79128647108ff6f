"""The kinds of rule of which pyoci.spec_tables is made.

A rule is a function: value -> None when it is valid, else a list of problems, each
(parts of the JSON pointer below the value, what is wrong, hint).  Pointers are put
together on the way out of a failure only: a valid config costs type checks and nothing else.
"""

from __future__ import annotations

from pyoci import spec_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
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


# -- scalars ---------------------------------------------------------------------------------


def boolean(value: Any) -> Found:
    return None if value is True or value is False else spec_words.wrong_kind("true or false", value)


def integer(low: int, high: int) -> Rule:
    """An integer in low..high: true is none, nor is 1.0."""

    def check(value: Any) -> Found:
        if type(value) is int and low <= value <= high:
            return None
        return spec_words.wrong_integer(value, low, high)

    return check


u16 = integer(0, 0xFFFF)
u32 = integer(0, 0xFFFFFFFF)
u64 = integer(0, 0xFFFFFFFFFFFFFFFF)
i64 = integer(-1 << 63, (1 << 63) - 1)
limit = integer(-1, (1 << 63) - 1)  # -1: no limit


def text(value: Any) -> Found:
    """A string for the kernel: without NUL."""
    if type(value) is not str:
        return spec_words.wrong_kind("a string", value)
    return bad("must not contain NUL") if "\0" in value else None


def word(value: Any) -> Found:
    """A string without control characters: for what ends up in a line of a file or a log."""
    if type(value) is not str:
        return spec_words.wrong_kind("a string", value)
    if value.isprintable() or not any(c < " " or c == "\x7f" for c in value):
        return None
    return bad(f"must not contain control characters, as {spec_words.show(value)} does")


def no_newline(value: Any) -> Found:
    """A string that may be a path: neither NUL nor newline."""
    if type(value) is not str:
        return spec_words.wrong_kind("a string", value)
    if "\0" in value or "\n" in value:
        return bad(f"must not contain NUL or newline, as {spec_words.show(value)} does")
    return None


def path(value: Any) -> Found:
    """A path, absolute or relative."""
    return (
        no_newline(value)
        if value
        else bad("must not be empty")
        if value == ""
        else spec_words.wrong_kind("a string", value)
    )


def absolute(value: Any) -> Found:
    """An absolute path."""
    found = path(value)
    if found or value[0] == "/":
        return found
    return bad(f"must be an absolute path, not {spec_words.show(value)}", f"write /{value}" if len(value) < 80 else "")


def enum(*known: str) -> Rule:
    """One of the known words."""
    words = frozenset(known)

    def check(value: Any) -> Found:
        if type(value) is str and value in words:
            return None
        if type(value) is not str:
            return spec_words.wrong_kind("a string", value)
        if len(known) > 9:
            return bad(
                f"is {spec_words.show(value)}, which is none of its {len(known)} values", spec_words.mean(value, known)
            )
        return bad(f"must be one of {', '.join(known)}; not {spec_words.show(value)}", spec_words.mean(value, known))

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
            return spec_words.wrong_kind("an object", value)
        found: Found = None
        for name, item in value.items():
            rule = find(name)
            if rule is not None:
                problems = rule(item)
                if problems:
                    found = under(name, problems, found)
        for name in required:
            if name not in value:
                found = (found or []) + at(name, message="is required", hint=spec_words.misspelt(name, value, fields))
        if also is None:
            return found
        return _across(also, value, found) if found else also(value)

    return check


def _across(also: Rule, value: Any, found: list[Problem]) -> list[Problem]:
    if len(found) >= MAX_FAULTS:
        return found
    from pyoci import spec_across

    return spec_across.ask(also, value, found)


def mapping(rule: Rule, key: Rule, also: Rule | None = None) -> Rule:
    """An object with free names: a rule for each name, one for each value, one for the whole."""

    def check(value: Any) -> Found:
        if type(value) is not dict:
            return spec_words.wrong_kind("an object", value)
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
            return spec_words.wrong_kind("an array", value)
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
