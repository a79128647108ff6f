"""How things are shown: docker's tables, ages, sizes, and as much of --format as is used by people and scripts."""

from __future__ import annotations

import datetime
import re
import sys

from pyoci.mydocker import errors, templates

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

_ACTION = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_SHORT = 12
_STEPS = (
    ("year", 365 * 86400, 2 * 365 * 86400),
    ("month", 30 * 86400, 60 * 86400),
    ("week", 7 * 86400, 14 * 86400),
    ("day", 86400, 48 * 3600),
    ("hour", 3600, 90 * 60),
)


def short(identity: str) -> str:
    """Twelve digits of an id."""
    return identity.removeprefix("sha256:")[:_SHORT]


def size(number: float) -> str:
    """Bytes as docker writes them: powers of 1000, four digits at most ("2.13MB")."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            break
        number /= 1000
    return f"{number:.4g}{unit}" if unit == "B" else f"{number:.3g}{unit}"


def seconds(text: str) -> float | None:
    """RFC 3339 -> seconds since the epoch; None for what is none."""
    try:
        found = datetime.datetime.fromisoformat(_micro(text))
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()


def _micro(text: str) -> str:
    """Nanoseconds are too many digits for datetime."""
    return re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", text)


def age(text: str, now: float | None = None) -> str:
    """ "3 weeks ago"; "N/A" for no time."""
    then = seconds(text)
    if then is None or then <= 0:
        return "N/A"
    return f"{duration((now or datetime.datetime.now(datetime.UTC).timestamp()) - then)} ago"


def duration(passed: float) -> str:
    """ "About an hour", "3 weeks": docker's words."""
    if passed < 1:
        return "Less than a second"
    if passed < 2:
        return "1 second"
    if passed < 60:
        return f"{int(passed)} seconds"
    if passed < 120:
        return "About a minute"
    if passed < 46 * 60:
        return f"{int(passed // 60)} minutes"
    if passed < 90 * 60:
        return "About an hour"
    for unit, length, least in _STEPS:
        if passed >= least:
            return f"{int(passed // length)} {unit}s"
    return f"{round(passed / 3600)} hours"


def rows(entries: Iterable[Mapping[str, Any]], columns: Mapping[str, str], template: str = "") -> None:
    """Print a table: columns are heading -> field.  template: --format; "table ..." has headings, "json" is one."""
    found = list(entries)
    if template == "json":
        template = "{{json .}}"
    if not template:
        table(list(columns), [[str(entry[field]) for field in columns.values()] for entry in found])
    elif template.startswith("table "):
        wanted = template.removeprefix("table ").replace(r"\t", "\t").split("\t")
        titles = {field: title for title, field in columns.items()}
        headings = [_ACTION.sub(lambda action: _heading(action[1], titles), cell) for cell in wanted]
        table(headings, [[templates.render(cell, entry) for cell in wanted] for entry in found])
    else:
        for entry in found:
            sys.stdout.write(templates.render(template, entry) + "\n")


def _heading(action: str, titles: Mapping[str, str]) -> str:
    field = action.rpartition(".")[2]
    return titles.get(field, re.sub(r"(?<=[a-z])(?=[A-Z])", " ", field).upper())


def table(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they must be, three spaces between; nothing that would move a terminal's cursor."""
    lines = [list(headings), *([_plain(cell) for cell in line] for line in cells)]
    widths = [max(len(line[number]) for line in lines) for number in range(len(headings))]
    for line in lines:
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        sys.stdout.write("   ".join(padded).rstrip() + "\n")


def _plain(text: str) -> str:
    """Names and commands come from images: no control characters."""
    return "".join(character if character.isprintable() else "?" for character in text)


def filters(texts: Sequence[str], known: Sequence[str]) -> dict[str, list[str]]:
    """-f name=value -> {name: [values]}.  Raises errors.UsageError for an unknown name."""
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise errors.UsageError(f"invalid filter {text!r}", hint=f"there are {', '.join(known)}")
        found.setdefault(name, []).append(value)
    return found


def has_labels(labels: Mapping[str, str], wanted: Sequence[str]) -> bool:
    """Whether there is every label of `name` or `name=value`."""
    pairs = [text.partition("=") for text in wanted]
    return all(key in labels and (not equals or labels[key] == value) for key, equals, value in pairs)
