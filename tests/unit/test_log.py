"""--log and --log-level: where lines go, and which."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pyoci import errors
from pyoci.cli import log, log_daemon


@pytest.fixture
def listener(tmp_path: Path) -> socket.socket:
    """A log daemon."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(tmp_path / "log"))
    made.settimeout(5)
    return made


def test_journald(listener: socket.socket) -> None:
    with listener:
        daemon = log_daemon.Daemon("journald", "box", listener.getsockname())
        daemon.send("error", "no = luck")
        daemon.close()
        assert listener.recv(4096) == b"MESSAGE=no = luck\nPRIORITY=3\nSYSLOG_IDENTIFIER=box\n"


def test_syslog(listener: socket.socket) -> None:
    with listener:
        daemon = log_daemon.Daemon("syslog", "", listener.getsockname())
        daemon.send("warning", "ä")
        daemon.close()
        line = listener.recv(4096).decode()
    assert line.startswith("<28>")
    assert line[7:8] == " "
    assert line.endswith("]: ä")
    assert " pyoci[" in line


def test_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(errors.SetupError, match="cannot open log syslog"):
        log_daemon.Daemon("syslog", "", str(tmp_path / "none"))


def test_a_daemon_that_ends(listener: socket.socket) -> None:
    daemon = log_daemon.Daemon("journald", "a\nb", listener.getsockname())
    listener.close()
    daemon.send("error", "nobody hears it")
    daemon.close()


def test_lines_reach_the_daemon(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    with listener:
        monkeypatch.setitem(log_daemon.SOCKETS, "journald", listener.getsockname())
        made = log.Log()
        made.open("journald:box", "", "error")
        made.warnings(["not logged"])
        made.error("two\nlines")
        assert made.daemon
        made.daemon.close()
        assert listener.recv(4096).startswith(b"MESSAGE=two\\nlines\nPRIORITY=3\n")


@pytest.mark.parametrize("prefix", ["", "file:"])
def test_files(prefix: str, tmp_path: Path) -> None:
    made = log.Log()
    made.open(f"{prefix}{tmp_path}/log", "", "warning")
    made.error("x")
    made.debug("y")
    assert 'msg="x"' in (tmp_path / "log").read_text()
    assert "y" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("level", "kept"), [("error", 1), ("warning", 2), ("info", 2), ("debug", 3)])
def test_levels(level: str, kept: int, tmp_path: Path) -> None:
    made = log.Log()
    made.open(str(tmp_path / "log"), "json", level)
    made.debug("d")
    made.warnings(["w"])
    made.error("e")
    assert len((tmp_path / "log").read_text().splitlines()) == kept
    assert made.debugging is (level == "debug")
