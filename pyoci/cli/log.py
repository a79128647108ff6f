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

    from pyoci.cli.log_daemon import Daemon

STDERR = 2
LEVELS = ("error", "warning", "info", "debug")


class Log:
    """fd: the file of --log, or -1; daemon: that of --log journald: or syslog:; json: --log-format json;
    levels: those that are logged; debugging: whether debug is one of them."""

    __slots__ = ("daemon", "debugging", "fd", "json", "levels")

    def __init__(self) -> None:
        self.fd = -1
        self.daemon: Daemon | None = None
        self.json = False
        self.levels: tuple[str, ...] = LEVELS[:2]
        self.debugging = False

    def open(self, where: str, format: str, level: str) -> None:
        """Take the options.

        where: a path, file:PATH, journald:NAME, syslog:NAME, or "" for none.  level: one of LEVELS.
        Raises errors.SetupError when it cannot be opened.
        """
        self.json = format == "json"
        self.levels = LEVELS[: LEVELS.index(level) + 1]
        self.debugging = "debug" in self.levels
        kind, _, path = where.partition(":")
        if kind in ("journald", "syslog") and where != kind:
            from pyoci.cli import log_daemon

            self.daemon = log_daemon.Daemon(kind, path)
        elif where:
            self._open_file(path if kind == "file" and where != kind else where)

    def _open_file(self, path: str) -> None:
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
        for text in dict.fromkeys(texts):
            self._write("warning", text)

    def debug(self, text: str) -> None:
        """Several lines, under --debug only."""
        if self.debugging:
            for line in text.splitlines():
                self._write("debug", line)

    def _write(self, level: str, text: str) -> None:
        if level not in self.levels:
            return
        text = errors.one_line(text)
        if self.daemon:
            self.daemon.send(level, text)
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
