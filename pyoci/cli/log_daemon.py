"""--log journald:NAME and syslog:NAME: one datagram for each line, without a library.

Sources: systemd's "Native Journal Protocol", RFC 3164 as syslog(3) of glibc writes it.
"""

from __future__ import annotations

import _socket
import time

from pyoci import errors, kernel

SOCKETS = {"journald": "/run/systemd/journal/socket", "syslog": "/dev/log"}
PRIORITIES = {"error": 3, "warning": 4, "info": 6, "debug": 7}
DAEMON = 3 << 3  # facility
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


class Daemon:
    """A connected log daemon."""

    __slots__ = ("_name", "_socket", "kind")

    def __init__(self, kind: str, name: str, path: str = "") -> None:
        """kind: "journald" or "syslog".  name: what the lines are found by.  Raises errors.SetupError."""
        self.kind = kind
        self._name = name or "pyoci"
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        path = path or SOCKETS[kind]
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            text = errors.errno_text(error.errno or 0)
            raise errors.SetupError(f"cannot open log {kind}: {path}: {text}", errno=error.errno or 0) from None

    def send(self, level: str, text: str) -> None:
        """Log one line.  Never raises: there is nobody to tell."""
        line = self._journal(level, text) if self.kind == "journald" else self._syslog(level, text)
        try:
            self._socket.send(line.encode("utf-8", "backslashreplace"))
        except OSError:
            pass

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()

    def _journal(self, level: str, text: str) -> str:
        # a field is a line: one_line has taken care of the text, and an id or name has no newline either
        name = errors.one_line(self._name)
        return f"MESSAGE={text}\nPRIORITY={PRIORITIES[level]}\nSYSLOG_IDENTIFIER={name}\n"

    def _syslog(self, level: str, text: str) -> str:
        now = time.localtime()
        stamp = f"{MONTHS[now.tm_mon - 1]} {now.tm_mday:2} {now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02}"
        name = errors.one_line(self._name)
        return f"<{DAEMON | PRIORITIES[level]}>{stamp} {name}[{kernel.getpid()}]: {text}"
