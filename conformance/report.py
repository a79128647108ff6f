"""What a run found: for a person, as JSON, Markdown or JUnit."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from conformance.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.runner import Outcome

WORDS = {"pass": "pass", "fail": "FAIL", "skip": "skip", "plan": "plan only"}


def totals(outcomes: dict[str, Outcome]) -> str:
    """12 pass, 1 fail, ..."""
    count = Counter(outcome.verdict for outcome in outcomes.values())
    seconds = sum(outcome.seconds for outcome in outcomes.values())
    words = [f"{count[verdict]} {word.lower()}" for verdict, word in WORDS.items()]
    return f"{len(outcomes)} rows: {', '.join(words)} in {seconds:.0f} s"


def line(ident: str, outcome: Outcome) -> str:
    """One row for the terminal."""
    row = ROWS[ident]
    text = f"{ident} {row.level:<3} {WORDS[outcome.verdict]:<9} {row.text}"
    return f"{text}\n    {outcome.note}" if outcome.note else text


def as_text(_runtime: str, outcomes: dict[str, Outcome]) -> str:
    """The totals: the lines were printed as they came."""
    return totals(outcomes)


def as_json(runtime: str, outcomes: dict[str, Outcome]) -> str:
    """{"runtime", "totals", "rows": {ID: {level, text, verdict, note, seconds}}}."""
    rows = {
        ident: {
            "level": ROWS[ident].level,
            "text": ROWS[ident].text,
            "verdict": outcome.verdict,
            "note": outcome.note,
            "seconds": round(outcome.seconds, 3),
        }
        for ident, outcome in outcomes.items()
    }
    count = Counter(outcome.verdict for outcome in outcomes.values())
    return json.dumps({"runtime": runtime, "totals": {word: count[word] for word in WORDS}, "rows": rows}, indent=1)


def cell(text: str) -> str:
    """Text that may stand in a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def as_markdown(runtime: str, outcomes: dict[str, Outcome]) -> str:
    """A table."""
    lines = [
        f"# {runtime}",
        "",
        totals(outcomes),
        "",
        "| row | level | requirement | | note |",
        "|---|---|---|---|---|",
    ]
    for ident, outcome in outcomes.items():
        row = ROWS[ident]
        note = cell(outcome.note)
        lines.append(f"| {ident} | {row.level} | {cell(row.text)} | {WORDS[outcome.verdict]} | {note} |")
    return "\n".join(lines)


def as_junit(runtime: str, outcomes: dict[str, Outcome]) -> str:
    """One test case per row; plan only counts as skipped."""
    count = Counter(outcome.verdict for outcome in outcomes.values())
    skipped = count["skip"] + count["plan"]
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name={quoteattr("conformance " + runtime)} tests="{len(outcomes)}" '
        f'failures="{count["fail"]}" skipped="{skipped}">',
    ]
    for ident, outcome in outcomes.items():
        name = quoteattr(f"{ident} {ROWS[ident].text}")
        case = f'  <testcase classname="conformance" name={name} time="{outcome.seconds:.3f}"'
        if outcome.verdict == "pass":
            lines.append(case + "/>")
        else:
            tag = "failure" if outcome.verdict == "fail" else "skipped"
            lines.append(f"{case}><{tag} message={quoteattr(_xml(outcome.note))}/></testcase>")
    return "\n".join([*lines, "</testsuite>"])


def _xml(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


FORMATS: dict[str, Callable[[str, dict[str, Outcome]], str]] = {
    "text": as_text,
    "json": as_json,
    "markdown": as_markdown,
    "junit": as_junit,
}
