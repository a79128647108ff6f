"""The command line: global options, which module has which command, and errors to exit codes."""

from __future__ import annotations

import importlib
import os
import sys

import click

import pyoci
from pyoci.mydocker import groups, rootless
from pyoci.mydocker import paths as places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyoci.mydocker.paths import Paths

# command -> (module below commands/, what --help says).  A module has `command`; one with several commands has
# `command_NAME`.
COMMANDS = {
    "_boot": ("internal", "Start what restart policies want after a boot"),
    "_exited": ("internal", "What conmon calls at the end"),
    "_restart": ("internal", "A restart that waits for its time"),
    "attach": ("session", "Come back to a running container"),
    "commit": ("commit", "Make an image of a container's changes"),
    "cp": ("copy", "Copy files from and to a container"),
    "create": ("run", "Make a container and do not start it"),
    "diff": ("look", "Show what a container changed in its file system"),
    "exec": ("session", "Run another command in a running container"),
    "export": ("export", "Write a container's file system as a tar"),
    "history": ("history", "Show the steps an image was made by"),
    "images": ("images", "List images"),
    "import": ("import_", "Make an image of a tar of a file system"),
    "info": ("info", "Show what this installation is and can do"),
    "inspect": ("inspect", "Show all that is known of containers, images, volumes, networks"),
    "kill": ("life", "Send containers a signal"),
    "load": ("load", "Take images from a docker archive or an OCI layout"),
    "login": ("login", "Check and keep a registry's user and password"),
    "logout": ("login", "Forget a registry's user and password"),
    "logs": ("logs", "Show a container's output"),
    "network": ("network", "Networks of containers"),
    "pause": ("life", "Stop every process of containers for a while"),
    "port": ("look", "Show published ports"),
    "ps": ("ps", "List containers"),
    "pull": ("pull", "Fetch an image from a registry"),
    "push": ("push", "Send an image to a registry"),
    "rename": ("life", "Give a container another name"),
    "restart": ("life", "Stop containers and start them again"),
    "rm": ("life", "Remove containers"),
    "rmi": ("rmi", "Remove images"),
    "run": ("run", "Make a container of an image and run a command in it"),
    "save": ("save", "Write images as a docker archive or an OCI layout"),
    "start": ("life", "Start containers"),
    "stats": ("stats", "Show what containers use"),
    "stop": ("life", "Stop containers"),
    "system": ("system", "What is kept on disk, and removing what is not used"),
    "tag": ("tag", "Give an image one more name"),
    "top": ("look", "Show a container's processes"),
    "unpause": ("life", "Let paused containers go on"),
    "update": ("life", "Change limits and restart policy"),
    "version": ("version", "Show the versions"),
    "volume": ("volume", "Named volumes"),
    "wait": ("life", "Wait for the end of containers"),
}


class Commands(click.Group):
    """Loads a command's module when it is called, and none for --help."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """In the order of the alphabet."""
        return sorted(name for name in COMMANDS if not name.startswith("_"))

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """None for what is no command."""
        if cmd_name in groups.MEMBERS:
            return groups.Nouns(cmd_name, self)
        if cmd_name not in COMMANDS:
            return None
        name, _ = COMMANDS[cmd_name]
        module = importlib.import_module(f"pyoci.mydocker.commands.{name}")
        found = getattr(module, f"command_{cmd_name}", None) or module.command
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table's own words."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in sorted(COMMANDS.items()) if name[0] != "_"])


@click.command(cls=Commands, no_args_is_help=True, context_settings={"help_option_names": ["--help"]})
@click.option("--root", metavar="DIR", help="Keep images and containers here (/var/lib/mydocker)")
@click.option("--debug", is_flag=True, hidden=True, help="Show tracebacks")
@click.version_option(pyoci.__version__, "--version", prog_name="mydocker", message="%(prog)s version %(version)s")
@click.pass_context
def group(ctx: click.Context, root: str | None, debug: bool) -> None:
    """Containers without a daemon, with docker's commands, on pyoci."""
    ctx.obj = places.Paths.default(root)
    ctx.obj.debug = debug


def paths() -> Paths:
    """The directories of this call, made when they are not there; an ordinary user is in its namespaces then."""
    found = click.get_current_context().find_object(places.Paths)
    assert found is not None
    rootless.enter(found.run)
    return found.make()


def main(args: Sequence[str]) -> int:
    """Run one command; gives the exit status.  Nothing it prints on purpose is a traceback."""
    debug = "--debug" in args
    try:
        status = group.main(args=list(args), prog_name="mydocker", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return exit_code(error)
    except click.Abort:
        sys.stdout.flush()
        os._exit(130)  # a download may be waiting for its registry, and Python would wait for it
    except pyoci.Error as error:
        if debug:
            raise
        say(str(error))
        return error.code
    except ModuleNotFoundError as error:  # zstandard, rich, pyroute2
        if debug:
            raise
        say(f"the Python package {error.name} is missing; hint: install pyoci with pip, which brings it")
        return 1
    except BrokenPipeError:
        return _broken_pipe()
    except OSError as error:
        if debug:
            raise
        say(f"{error.filename or 'the system'}: {error.strerror}")
        return 1
    return status if isinstance(status, int) else 0


def exit_code(error: click.ClickException) -> int:
    """docker's: 1 for too few or too many words and for no command, 125 for options; 0 for none at all."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return 0
    missing = isinstance(error, click.MissingParameter) and isinstance(error.param, click.Argument)
    words = ("Missing command", "No such command", "unexpected extra argument")
    return 1 if missing or any(text in error.message for text in words) else 125


def say(text: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"mydocker: {text}\n")


def _broken_pipe() -> int:
    """Nobody reads any more (`mydocker images | head -1`): no error, and none when the interpreter flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0
