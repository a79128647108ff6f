"""Where errors go: one line on stderr, and the same in the file of --log.

Engines read both.  containerd takes the last line of the log, and each must be a JSON object;
podman reads the log only when it is a single object; conmon passes stderr on.  So an error is
one line in each, and then nothing else is written unless --debug asks for it.
"""

from __future__ import annotations

import time

from pyoci import errors, kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

STDERR = 2


class Log:
    """fd: the file of --log, or -1; json: --log-format json; debug: --debug."""

    __slots__ = ("debugging", "fd", "json")

    def __init__(self) -> None:
        self.fd = -1
        self.json = False
        self.debugging = False

    def open(self, path: str, format: str, debug: bool) -> None:
        """Take the options; path "" means none.  Raises errors.SetupError when the file cannot be opened."""
        self.json = format == "json"
        self.debugging = debug
        if not path:
            return
        try:
            self.fd = kernel.open(
                path, kernel.O_WRONLY | kernel.O_CREAT | kernel.O_APPEND | kernel.O_CLOEXEC | kernel.O_NOCTTY, 0o644
            )
        except (OSError, ValueError) as error:
            text = errors.errno_text(error.errno or 0) if isinstance(error, OSError) else str(error)
            raise errors.SetupError(f"cannot open log file {path}: {text}") from None

    def error(self, text: str) -> None:
        """What went wrong, as the last line of both."""
        self._write("error", text)

    def warnings(self, texts: Iterable[str]) -> None:
        """What was not as asked, after the verb has done its work."""
        for text in texts:
            self._write("warning", text)

    def debug(self, text: str) -> None:
        """Several lines, under --debug only."""
        if self.debugging:
            for line in text.splitlines():
                self._write("debug", line)

    def _write(self, level: str, text: str) -> None:
        text = errors.one_line(text)
        line = _json_line(level, text) if self.json else _text_line(level, text)
        if self.fd >= 0:
            _put(self.fd, line)
            _put(STDERR, text)  # as runc does: who reads stderr need not take a log format apart
        else:
            _put(STDERR, f"pyoci: {text}" if kernel.isatty(STDERR) else line)


def _now() -> str:
    """RFC 3339; containerd refuses a log line whose time does not parse."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _json_line(level: str, text: str) -> str:
    from pyoci import json

    return json.dumps({"level": level, "msg": text, "time": _now()})


def _text_line(level: str, text: str) -> str:
    """The format of logrus, which runc uses."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'time="{_now()}" level={level} msg="{quoted}"'


def _put(fd: int, line: str) -> None:
    try:
        kernel.write(fd, (line + "\n").encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # nobody to tell


LOG = Log()  # one for the process, as stderr is
