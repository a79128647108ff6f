"""What an invalid config is told: a valid one does not load this."""

from __future__ import annotations

from pyoci import spec_rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pyoci.spec_rules import Problem, Rule

MAX_NAMES = 1000  # that are looked through for the one that was meant: comparing takes 20 microseconds each
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
    given = word.lower()[:100]
    # NOFILE for RLIMIT_NOFILE, net for network
    parts = [name for name in folded if len(given) > 1 and (name.endswith(f"_{given}") or name.startswith(given))]
    matches = sorted(parts, key=len) or difflib.get_close_matches(given, folded, 1, 0.7)
    return folded[matches[0]] if matches else ""


def mean(word: str, known: Iterable[str]) -> str:
    """The hint of a misspelt word, or ""."""
    match = closest(word, known)
    return f"did you mean {match}?" if match else ""


def wrong_kind(expected: str, value: object) -> list[Problem]:
    hint = "leave it out" if value is None else ""
    return spec_rules.bad(f"must be {expected}, not {kind(value)}", hint)


def wrong_integer(value: Any, low: int, high: int) -> list[Problem]:
    if type(value) is int:
        return spec_rules.bad(f"must be in {low}..{high}, not {show(value)}")
    hint = ""
    if type(value) is float and value.is_integer() and low <= value <= high:
        hint = f"write {int(value)}"
    elif type(value) is str and len(value) < 20 and value.isascii() and value.isdigit():
        hint = f"write {int(value)} without quotes"
    elif value is None:
        hint = "leave it out"
    return spec_rules.bad(f"must be an integer, not {kind(value)}", hint)


def misspelt(name: str, value: dict[str, Any], fields: dict[str, Rule]) -> str:
    others = [key for key in value if key not in fields][:MAX_NAMES]
    match = closest(name, others)
    return f"{show(match)} is not known: was it meant to be {name}?" if match else ""
