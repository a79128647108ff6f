"""pyoci kill."""

from __future__ import annotations

from pyoci.cli import common, options
from pyoci.cli.options import Option

ARGS = ("CONTAINER-ID", "[SIGNAL]")
OPTIONS = (
    Option("all", "to every process of the container, not only its first", short="a"),
    options.REGEX,
)
HELP = """\
SIGNAL is a name with or without SIG (TERM, SIGKILL, RTMIN+3) or a number; when left out the one the
image asks for (annotation org.opencontainers.image.stopSignal), else TERM.
"""


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Send the signal."""
    signal = opts.args[1] if len(opts.args) > 1 else None

    def kill(id: str) -> None:
        common.find(given, id).kill(signal, all=opts.flag("all"))

    common.each(common.named(given, opts, opts.args[:1]), kill)
    return 0
