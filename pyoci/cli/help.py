"""pyoci help [VERB]: from the same tables that parse the command line."""

from __future__ import annotations

from pyoci import cli, errors
from pyoci.cli import options

ARGS = ("[VERB]",)
OPTIONS = ()
HELP = ""


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Print the help of a verb, or of the command."""
    cli.write(verb_help(opts.args[0]) if opts.args else command_help())
    return 0


def command_help() -> str:
    """The help of the command itself."""
    return (
        "pyoci runs containers as the OCI runtime specification describes them.\n\n"
        "USAGE:\n   pyoci [GLOBAL OPTIONS] VERB [OPTIONS] ARGUMENTS\n\n"
        f"VERBS:\n{options.columns(list(cli.VERBS.items()))}\n"
        f"GLOBAL OPTIONS:\n{options.listing(options.GLOBAL)}\n"
        "`pyoci VERB --help` explains a verb.\n"
    )


def verb_help(verb: str) -> str:
    """The help of one verb.  Raises errors.UsageError when there is none of that name."""
    if verb not in cli.VERBS:
        raise errors.UsageError(f'no help for "{verb}"', hint=options.nearest(verb, cli.VERBS))
    module = cli.load(verb)
    about = f"\n{module.HELP}" if module.HELP else ""
    return (
        f"pyoci {verb}: {cli.VERBS[verb]}\n\n"
        f"USAGE:\n   {cli.usage(verb, module.ARGS)}\n{about}\n"
        f"OPTIONS:\n{options.listing(module.OPTIONS)}"
    )
