"""The command line: `pyoci [global options] VERB [options] ARGS`, one module per verb.

A verb's module holds ARGS (the names of its arguments, "[NAME]" where one may be left out, "[NAME...]"
for any number, "..." at the end for a command line of its own), OPTIONS (its table), HELP (what to know about it) and
run(), which does it and returns the exit status.
"""

from __future__ import annotations

from pyoci import errors, kernel
from pyoci.cli import options
from pyoci.cli.log import LOG

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Sequence
    from typing import Any
else:
    import _signal

VERBS = {
    "create": "create a container from a bundle",
    "start": "run the program of a created container",
    "state": "print the state of a container",
    "kill": "send a signal to a container",
    "delete": "remove a container",
    "run": "create and start a container",
    "exec": "run another process in a container",
    "list": "list containers",
    "ps": "show the processes of a container",
    "events": "show what a container uses, as it changes",
    "mounts": "add mounts to a running container, or remove them",
    "checkpoint": "write a container down as files",
    "restore": "make a container from a checkpoint",
    "pause": "stop all processes of a container",
    "resume": "let a paused container go on",
    "update": "change the limits of a container",
    "spec": "write a config.json to begin with",
    "plan": "print what create would do with a bundle",
    "validate": "tell every fault of a config.json",
    "features": "print what pyoci can do on this machine, as JSON",
    "info": "print what pyoci finds on this machine",
    "doctor": "tell what this machine lacks for containers",
    "completion": "print the completion of the command line for a shell",
    "version": "print the version",
    "help": "explain a verb",
}
INTERNAL = "internal error: "
EXEC_FAILED = 255  # as runc: below are the codes of the process that was executed


class Interrupted(KeyboardInterrupt):
    """A signal that ends the command; on its way out what was begun is undone."""

    def __init__(self, number: int) -> None:
        self.number = number


def main(argv: Sequence[str]) -> int:
    """Run the command with these arguments (without the name) and return its exit status.

    Errors are printed here and nowhere else.
    """
    failed = errors.Error.code
    try:
        catch_signals()
        given = options.parse(argv, options.GLOBAL, mixed=False)
        level = "debug" if given.flag("debug") else given.text("log-level") or "warning"
        LOG.open(given.text("log"), given.text("log-format"), level)
        LOG.debug(" ".join(["pyoci", *argv]))
        verb, rest = choose(given)
        module = load(verb)
        opts = options.parse(rest, module.OPTIONS, mixed=module.ARGS[-1:] != ("...",))
        if opts.flag("help"):
            verb, module, opts = "help", load("help"), of(verb)
        check_arguments(verb, module.ARGS, opts.args)
        failed = EXEC_FAILED if verb == "exec" else failed
        result: int = module.run(given, opts)
        return result
    except errors.Error as error:
        explain(error)
        LOG.error(str(error))
        return error.code if error.code != errors.Error.code else failed
    except KeyboardInterrupt as error:
        explain(error)
        number = error.number if isinstance(error, Interrupted) else _signal.SIGINT
        LOG.error(f"interrupted by signal {number}")
        return 128 + number
    except Exception as error:
        explain(error)
        LOG.error(f"{INTERNAL}{type(error).__name__}: {error}")
        return failed


def catch_signals() -> None:
    """Let the signals that end a program raise an exception, so that `finally` clauses run."""
    for number in (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT):
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, interrupt)


def interrupt(number: int, frame: object) -> None:
    """Signal handler."""
    raise Interrupted(number)


def choose(given: options.Parsed) -> tuple[str, list[str]]:
    """The verb and what follows it.  Raises errors.UsageError."""
    if given.flag("version"):
        return "version", []
    if given.flag("help") or not given.args:
        return "help", given.args[:1]
    verb = given.args[0]
    if verb not in VERBS:
        hint = options.nearest(verb, VERBS) or f"one of {', '.join(VERBS)}"
        raise errors.UsageError(f'unknown verb "{verb}"', hint=hint)
    return verb, given.args[1:]


def of(verb: str) -> options.Parsed:
    """The arguments of `help` that explain a verb."""
    parsed = options.Parsed()
    parsed.args.append(verb)
    return parsed


def load(verb: str) -> Any:
    """The module of a verb.  (importlib would cost more than the module.)"""
    return __import__(f"pyoci.cli.{verb}", fromlist=["run"])


def usage(verb: str, args: Sequence[str]) -> str:
    """How the verb is called, in one line."""
    return " ".join(["pyoci", verb, "[OPTIONS]", *args])


def check_arguments(verb: str, wanted: Sequence[str], given: Sequence[str]) -> None:
    """Raises errors.UsageError unless there are as many arguments as the verb takes."""
    least = len([name for name in wanted if name[0] not in "[."])
    if len(given) < least:
        raise missing(verb, wanted, wanted[len(given)])
    if len(given) > len(wanted) and not "".join(wanted[-1:]).rstrip("]").endswith("..."):
        extra = " ".join(given[len(wanted) :])
        raise errors.UsageError(f"{verb} takes no further argument: {extra}", hint=f"usage: {usage(verb, wanted)}")


def missing(verb: str, wanted: Sequence[str], name: str) -> errors.UsageError:
    """The error for an argument that is not there."""
    what = name.lower().replace("-", " ").strip("[].")
    article = "an" if what[0] in "aeiou" else "a"
    return errors.UsageError(f"{verb} needs {article} {what}", hint=f"usage: {usage(verb, wanted)}")


def write(text: str) -> None:
    """Print text on stdout.  Raises errors.SetupError when it cannot be written."""
    data = text.encode("utf-8", "backslashreplace")
    try:
        while data:
            data = data[kernel.write(1, data) :]
    except OSError as error:
        raise errors.failed("cannot write to stdout", error) from None


def explain(error: BaseException) -> None:
    """What could not be undone after the error, and for --debug the traceback."""
    LOG.warnings(getattr(error, "__notes__", ()))
    if LOG.debugging:
        import traceback

        LOG.debug("".join(traceback.format_exception(error)))
