"""The manual: pyoci.1 and one page for each verb, in man(7), from the tables that parse the command line.

`python3 -m pyoci.cli.manpages DIRECTORY` writes them; `make install` does.
"""

from __future__ import annotations

import os
import sys

import pyoci
from pyoci import cli
from pyoci.cli import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyoci.cli.options import Option

FILES = (
    ("/run/pyoci", "state of the containers, one directory each; for other users than root $XDG_RUNTIME_DIR/pyoci"),
    ("BUNDLE/config.json", "configuration of a container, as the OCI runtime specification has it"),
)
STATUS = """\
0, or 1 when something failed: the last line on stderr says what, to what, and why. exec exits with 255 when the \
process could not be run; run and exec in the foreground with the status of the process, 128 + N when signal N \
ended it.
"""
ENVIRONMENT = (
    ("XDG_RUNTIME_DIR", "where users other than root have the state"),
    ("NOTIFY_SOCKET", "socket of the service manager, which is told when the container is ready; see sd_notify(3)"),
    ("LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES", "sockets for the program; see sd_listen_fds(3)"),
)


def pages() -> dict[str, str]:
    """File name -> text of every page."""
    found = {"pyoci.1": command_page()}
    for verb in cli.VERBS:
        found[f"pyoci-{verb}.1"] = verb_page(verb)
    return found


def escape(text: str) -> str:
    """Text as it stands in man(7): no escapes, no requests, hyphens that can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join([f"\\&{line}" if line[:1] in (".", "'") else line for line in text.split("\n")])


def head(name: str, about: str) -> list[str]:
    """The title and the section NAME."""
    title = f'.TH "{name.upper()}" "1" "" "pyoci {pyoci.__version__}" "pyoci"'
    return [title, ".SH NAME", f"{escape(name)} \\- {escape(about)}"]


def entries(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Tagged paragraphs."""
    lines = []
    for tag, text in rows:
        lines += [".TP", f".B {escape(tag)}", escape(text)]
    return lines


def of_options(table: Sequence[Option]) -> list[str]:
    """The options, as paragraphs."""
    return entries([(option.spelling(), option.help) for option in (*table, options.HELP)])


def paragraphs(text: str) -> list[str]:
    """The text of a verb's HELP."""
    lines = []
    for block in text.strip().split("\n\n"):
        lines += [".PP", escape(block)]
    return lines


def command_page() -> str:
    """pyoci.1"""
    lines = head("pyoci", "run containers as the OCI runtime specification describes them")
    lines += [".SH SYNOPSIS", ".B pyoci", escape("[GLOBAL OPTIONS] VERB [OPTIONS] ARGUMENTS")]
    lines += [".SH DESCRIPTION"]
    lines.append("pyoci makes, starts, signals and removes containers. Engines call it as they call runc and crun.")
    lines += [".SH VERBS", *entries([(f"pyoci-{verb}(1)", about) for verb, about in cli.VERBS.items()])]
    lines += [".SH GLOBAL OPTIONS", *of_options(options.GLOBAL)]
    lines += [".SH EXIT STATUS", escape(STATUS.strip())]
    lines += [".SH ENVIRONMENT", *entries(ENVIRONMENT)]
    lines += [".SH FILES", *entries(FILES)]
    return "\n".join(lines) + "\n"


def verb_page(verb: str) -> str:
    """The page of one verb."""
    module = cli.load(verb)
    lines = head(f"pyoci-{verb}", cli.VERBS[verb])
    lines += [".SH SYNOPSIS", f".B pyoci {escape(verb)}", escape(" ".join(["[OPTIONS]", *module.ARGS]))]
    if module.HELP:
        lines += [".SH DESCRIPTION", *paragraphs(module.HELP)[1:]]
    lines += [".SH OPTIONS", *of_options(module.OPTIONS), ".SH SEE ALSO", escape("pyoci(1)")]
    return "\n".join(lines) + "\n"


def main(directory: str) -> None:
    """Write all pages into a directory, which is made."""
    os.makedirs(directory, exist_ok=True)
    for name, text in pages().items():
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main(sys.argv[1])
