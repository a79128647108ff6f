"""pyoci list: in runc's columns and JSON."""

from __future__ import annotations

from pyoci import cli, container_list, errors, json
from pyoci.cli import options
from pyoci.cli.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ARGS = ()
OPTIONS = (
    Option("format", "table (default) or json", "FORMAT", short="f", choices=("table", "json")),
    Option("quiet", "ids only", short="q"),
)
HELP = """\
The containers under the global option --root are listed.  One whose state cannot be read is "damaged":
`pyoci delete --force` removes it.
"""
COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")
WIDTH, GAP = 12, 3  # least width of a column, and blanks after the longest entry


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Print the list."""
    found = container_list.list(given.text("root") or None)
    if opts.flag("quiet"):
        cli.write("".join([f"{state['id']}\n" for state in found]))
    elif opts.text("format") == "json":
        cli.write(json.dumps(found) + "\n")
    else:
        rows = [[errors.one_line(str(state.get(column, ""))) for column in COLUMNS] for state in found]
        cli.write(table([[column.upper() for column in COLUMNS], *rows]))
    return 0


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned text; the last column is not padded."""
    widths = [max(WIDTH, max(map(len, column)) + GAP) for column in zip(*rows, strict=True)]
    widths[-1] = 0
    lines = ["".join([cell.ljust(width) for cell, width in zip(row, widths, strict=True)]) for row in rows]
    return "\n".join(lines) + "\n"
