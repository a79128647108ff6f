"""Options of the command line: one table per verb, from which parsing and help both come.

Accepted are the spellings of runc's option parser (Go's flag package): `--name value`,
`--name=value`, one dash or two, `--flag=false`, `--` as the end.  Options may follow the
arguments, except where these are a command line of their own (exec).  One-letter options may
also be joined as getopt(3) has it (`-td`, `-u1000`), which is crun's.
"""

from __future__ import annotations

from pyoci import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import NoReturn

FLAG = "flag"  # bool; given alone it is true
TEXT = "text"
NUMBER = "number"  # a count, 0 or more

# What strconv.ParseBool of Go takes.
TRUE = ("1", "t", "T", "TRUE", "true", "True")
FALSE = ("0", "f", "F", "FALSE", "false", "False")
MAX_NUMBER = 0xFFFFFFFF


class Option:
    """One option.

    name:    str, long name without dashes; short: its one-letter alias or "".
    kind:    FLAG, TEXT or NUMBER; value: str, what stands for the value in the help.
    many:    bool, may be given several times and every value counts (else the last one wins).
    choices: tuple of the allowed values; () for any.
    """

    __slots__ = ("choices", "help", "kind", "many", "name", "short", "value")

    def __init__(
        self, name: str, help: str, value: str = "", *, short: str = "", many: bool = False, choices: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.help = help
        self.value = value
        self.kind = FLAG if not value else NUMBER if value == "N" else TEXT
        self.short = short
        self.many = many
        self.choices = tuple(choices)

    def spelling(self) -> str:
        """As it stands in the help: "--bundle DIR, -b DIR"."""
        value = f" {self.value}" if self.value else ""
        short = f", -{self.short}{value}" if self.short else ""
        return f"--{self.name}{value}{short}"


HELP = Option("help", "show this help", short="h")
ALIASES = {"?": "help", "usage": "help", "V": "version"}  # crun's

# Options that several verbs share.
BUNDLE = Option("bundle", "directory of the bundle (default: the current directory)", "DIR", short="b")
CONFIG = Option("config", "file to read in place of the bundle's config.json, - for stdin", "FILE", short="f")
CONSOLE_SOCKET = Option("console-socket", "AF_UNIX socket that gets the master of the container's terminal", "PATH")
PID_FILE = Option("pid-file", "file to write the process id to", "FILE")
PIDFD_SOCKET = Option("pidfd-socket", "AF_UNIX socket that gets a pidfd of the process", "PATH")
NO_PIVOT = Option("no-pivot", "do not use pivot_root(2): for a root file system on a ramdisk")
NO_NEW_KEYRING = Option("no-new-keyring", "keep the caller's session keyring")
PRESERVE_FDS = Option("preserve-fds", "pass N more descriptors to the container, from 3 on (default: 0)", "N")
REGEX = Option("regex", "all containers in whose id the regular expression CONTAINER-ID is found", short="r")
NO_SUBREAPER = Option("no-subreaper", "leave orphans of a container without pid namespace to the system")
DETACH = Option("detach", "do not wait for the process", short="d")
CREATE = (BUNDLE, CONFIG, CONSOLE_SOCKET, PID_FILE, PIDFD_SOCKET, NO_PIVOT, NO_NEW_KEYRING, PRESERVE_FDS)


class Parsed:
    """What was given: options by their long name, and the arguments in order."""

    __slots__ = ("args", "values")

    def __init__(self) -> None:
        self.values: dict[str, list[str]] = {}
        self.args: list[str] = []

    def flag(self, name: str) -> bool:
        """A FLAG; False when not given."""
        return self.values.get(name, FALSE)[-1] in TRUE

    def text(self, name: str) -> str:
        """A TEXT; "" when not given."""
        return self.texts(name)[-1] if name in self.values else ""

    def texts(self, name: str) -> list[str]:
        """All values of an option, in order."""
        return self.values.get(name, [])

    def number(self, name: str) -> int:
        """A NUMBER; 0 when not given."""
        text = self.text(name)
        return int(text) if text else 0


def parse(argv: Sequence[str], table: Iterable[Option], *, mixed: bool = True) -> Parsed:
    """Read a command line.

    mixed: options may follow arguments; else the first argument ends the options.
    Raises errors.UsageError with the texts of Go's flag package, which podman looks for.
    """
    known = {HELP.name: HELP, HELP.short: HELP}
    for option in table:
        known[option.name] = option
        if option.short:
            known[option.short] = option
    parsed = Parsed()
    words = iter(argv)
    for word in words:
        if word == "--":
            break
        if len(word) > 1 and word[0] == "-":
            _take(parsed, word, words, known)
            continue
        parsed.args.append(word)
        if not mixed:
            break
    parsed.args += words
    return parsed


def _take(parsed: Parsed, word: str, words: Iterator[str], known: dict[str, Option]) -> None:
    """One option and, if it wants one, the word after it."""
    name, given, value = word[2 if word[1] == "-" else 1 :].partition("=")
    if not name or name[0] == "-":
        raise errors.UsageError(f"bad flag syntax: {word}")
    option = known.get(name) or known.get(ALIASES.get(name, ""))
    if option is None:
        word = _joined(parsed, word, known)
        name, given, value = word[0], word[1:], word[1:]
        option = known[name]
    if not given:
        value = "true" if option.kind == FLAG else _next(option, name, words)
    _check(option, name, value)
    parsed.values.setdefault(option.name, []).append(value)


def _joined(parsed: Parsed, word: str, known: dict[str, Option]) -> str:
    """Take the flags of -abcVALUE, one letter each, and leave the last letter and what belongs to it.

    A value that begins with a letter is not believed: the word is a long option, mistyped.
    """
    rest = word[1:]
    flags = []
    while rest[1:] and rest[0] in known and known[rest[0]].kind == FLAG:
        flags.append(known[rest[0]].name)
        rest = rest[1:]
    option = known.get(rest[0])
    if len(word) < 3 or option is None or (rest[1:] and (option.kind == FLAG or rest[1].isalpha() or rest[1] in "=-")):
        _unknown(word.lstrip("-").partition("=")[0], known)
    for name in flags:
        parsed.values.setdefault(name, []).append("true")
    return rest


def _next(option: Option, name: str, words: Iterator[str]) -> str:
    """The word after an option, whatever it looks like: `--resources -`."""
    for word in words:
        return word
    raise errors.UsageError(f"flag needs an argument: -{name}", hint=f"{option.spelling()}: {option.help}")


def _check(option: Option, name: str, value: str) -> None:
    if option.kind == FLAG and value not in TRUE + FALSE:
        raise errors.UsageError(f'invalid boolean value "{value}" for -{name}: parse error', hint="true or false")
    if option.kind == NUMBER and not _is_number(value):
        raise errors.UsageError(f'invalid value "{value}" for flag -{name}: parse error', hint="a number, 0 or more")
    if option.choices and value not in option.choices:
        raise errors.UsageError(f'invalid value "{value}" for flag -{name}', hint=f"one of {', '.join(option.choices)}")


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) <= 10 and int(value) <= MAX_NUMBER


def _unknown(name: str, known: dict[str, Option]) -> NoReturn:
    hint = nearest(f"--{name}", [f"--{long}" for long in known if len(long) > 1])
    if any(name in (option.name, option.short) for option in GLOBAL):
        hint = f"--{name} is a global option: it stands before the verb"
    elif any(name in (option.name, option.short) for option in (*CREATE, DETACH)):
        hint = f"-{name} is an option of other verbs, and stands after the verb"
    raise errors.UsageError(f"flag provided but not defined: -{name}", hint=hint)


def nearest(word: str, words: Iterable[str]) -> str:
    """A hint that names those of words which are most like word, or ""."""
    from difflib import get_close_matches  # the command has failed: there is time

    near = get_close_matches(word[:100], list(words), 2, 0.65)
    return f"did you mean {' or '.join(near)}?" if near else ""


# -- help -------------------------------------------------------------------------------------


def listing(table: Sequence[Option]) -> str:
    """The OPTIONS of a help text."""
    return columns([(option.spelling(), option.help) for option in (*table, HELP)])


def columns(rows: Sequence[tuple[str, str]]) -> str:
    """Two columns, indented."""
    width = max(len(left) for left, _ in rows) + 2
    return "".join([f"   {left:{width}}{right}\n" for left, right in rows])


# The options before the verb.
GLOBAL = (
    Option("root", "directory of the containers' state (default: /run/pyoci, or $XDG_RUNTIME_DIR/pyoci)", "DIR"),
    Option("log", "file to append errors to, beside stderr; or file:PATH, journald:NAME, syslog:NAME", "FILE"),
    Option("log-format", "format of the log (default: text)", "FORMAT", choices=("text", "json")),
    Option("log-level", "what is logged (default: warning)", "LEVEL", choices=("error", "warning", "info", "debug")),
    Option("debug", "say more: tracebacks of internal errors; the same as --log-level debug"),
    Option("systemd-cgroup", "make cgroups through systemd; cgroupsPath is slice:prefix:name"),
    Option(
        "cgroup-manager",
        "who makes cgroups: cgroupfs (default), systemd or disabled",
        "NAME",
        choices=("cgroupfs", "systemd", "disabled"),
    ),
    Option(
        "rootless",
        "whether cgroups that may not be made are left out: true, false or auto (if nothing is asked of them)",
        "WHEN",
        choices=("true", "false", "auto"),
    ),
    Option("criu", "the criu program, for checkpoint and restore (default: criu)", "PATH"),
    Option("version", "print the version", short="v"),
)
