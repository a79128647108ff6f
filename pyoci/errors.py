"""The one way pyoci says no.

An error is one line: what failed, on what, why; where in config.json the request
came from; and a hint where there is one.  It is worded once, where the cause is
known, and printed once, at the edge (pyoci.cli, or the caller of the library).
"""

from __future__ import annotations

from pyoci import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_TEXT = 9000  # characters of a part of an error that are shown: more than two paths of 4095
MAX_VALUE = 80  # characters of a value that should have been a number


class Error(Exception):
    """Base of everything pyoci raises on purpose.

    message: str, the sentence (what, to what, why), lower case, no full stop.
    where:   str, the JSON pointer in config.json the request came from, or "".
    document: str, what the pointer leads into, when that is not config.json.
    hint:    str, what the user can do, or "".
    code:    int, the exit status the command ends with.
    """

    code = 1
    document = "config.json"

    def __init__(self, message: str, *, where: str = "", hint: str = "", code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        text = short(self.message)
        if self.where:
            text += f" ({self.document} {short(self.where)})"
        if self.hint:
            text += f"; hint: {short(self.hint)}"
        return one_line(text)


class UsageError(Error):
    """The command line is wrong: unknown verb or option, missing value."""


class InvalidConfig(Error):
    """config.json (or process.json) does not hold what the runtime-spec asks.

    faults: every fault found, each with .where, .message and .hint; the text is the
    first fault and the number of the others.
    """

    def __init__(self, message: str, *, faults: Sequence[Fault] = (), where: str = "", hint: str = "") -> None:
        super().__init__(message, where=where, hint=hint)
        self.faults = tuple(faults)


class NotFound(Error):
    """No container with this id."""


class AlreadyExists(Error):
    """A container with this id is there already."""


class WrongState(Error):
    """The container is not in a state in which this can be done."""


class SetupError(Error):
    """The kernel, or nsexec on its behalf, refused a step; errno is set where known."""

    def __init__(
        self, message: str, *, errno: int = 0, where: str = "", hint: str = "", code: int | None = None
    ) -> None:
        super().__init__(message, where=where, hint=hint, code=code)
        self.errno = errno


class HookError(Error):
    """A hook failed or ran out of time."""


class Fault:
    """One thing wrong in a config: where (JSON pointer), message, hint."""

    __slots__ = ("hint", "message", "where")

    def __init__(self, where: str, message: str, hint: str = "") -> None:
        self.where = where
        self.message = message
        self.hint = hint

    def __repr__(self) -> str:
        return f"Fault({self.where!r}, {self.message!r}, {self.hint!r})"


def errno_text(number: int) -> str:
    """The text of an errno as Go programs print it: engines match on the lower-case form."""
    text = kernel.strerror(number)
    return text[:1].lower() + text[1:]


def failed(what: str, error: OSError, where: str = "", hint: str = "") -> SetupError:
    """The error for a refused step: "WHAT: errno text"."""
    number = error.errno or 0
    return SetupError(f"{what}: {errno_text(number)}", errno=number, where=where, hint=hint)


def short(text: str, most: int = MAX_TEXT) -> str:
    """text without its middle where that is long: a name may have megabytes, and the reason comes last."""
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 2 :]}"


def value(text: str) -> str:
    """A value that is wrong, for a message: what it should have been is short."""
    return short(text, MAX_VALUE)


def one_line(text: str) -> str:
    """Make text safe for one log line: control characters become escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
