"""Terminals on the host side: the console socket, and a foreground process with a real pty (P01, P02)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import termios
import tty
from pathlib import Path

import pytest

from pyoci import errors
from pyoci.host import console, terminal
from tests.integration.harness import ConsoleSocket, Terminal, read_until

ROOT = Path(__file__).resolve().parents[2]
LFLAG = 3

# A stand-in for the runtime: `sh -c ARG` on a pty (or, without "tty", on our stdio) in the foreground.
RUNTIME = f"""
import os, sys
sys.path.append({str(ROOT)!r})
from pyoci.host.foreground import Foreground
master, slave = os.openpty()
terminal = sys.argv[1] == "tty"
with Foreground() as front:
    go, start = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.login_tty(slave) if terminal else os.setsid()
        os.close(start)
        os.read(go, 1)
        os.execvp("sh", ["sh", "-c", sys.argv[2]])
    os.close(slave)
    if terminal:
        front.attach(master)
    front.listen(terminal, reap=len(sys.argv) > 3)
    os.close(start)
    front.wait(os.pidfd_open(pid))
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
os._exit(code if code >= 0 else 128 - code)
"""


def runtime(script: str, mode: str = "tty") -> list[str]:
    return ["/usr/bin/python3", "-I", "-S", "-c", RUNTIME, mode, script]


def popen(script: str, mode: str = "tty") -> subprocess.Popen[bytes]:
    return subprocess.Popen(runtime(script, mode), stdin=subprocess.PIPE, stdout=subprocess.PIPE)


# -- the console socket -----------------------------------------------------------------------


def test_who_accepts_nobody_is_not_waited_for(tmp_path: Path) -> None:
    """An agent that hangs: create would, with the lock, and `delete --force` after it."""
    path = str(tmp_path / "busy")
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as before:
        busy.bind(path)
        busy.listen(0)
        before.connect(path)
        with pytest.raises(errors.SetupError, match="cannot connect to seccomp listener socket"):
            console.connect(path, "seccomp listener", 1)


@pytest.mark.parametrize("depth", [1, 30])
def test_send(tmp_path: Path, depth: int) -> None:
    """P01: one message, at least a byte, exactly one descriptor; a path longer than sockaddr_un holds works."""
    directory = tmp_path.joinpath(*["directory"] * depth)
    directory.mkdir(parents=True)
    # bound through /proc for the same reason
    fd = os.open(directory, os.O_PATH)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"/proc/self/fd/{fd}/s.sock")
    os.close(fd)
    listener.listen()
    master, slave = os.openpty()
    peer = console.connect(str(directory / "s.sock"))
    console.send(peer, master)
    peer.close()
    received, _ = listener.accept()
    data, fds, _flags, _ = socket.recv_fds(received, 4096, 2)
    assert len(data) >= 1
    assert len(fds) == 1
    assert os.path.samestat(os.fstat(fds[0]), os.fstat(master))
    assert received.recv(1) == b""
    for number in (*fds, master, slave):
        os.close(number)
    received.close()
    listener.close()


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.sock")
        listener.listen()
        console.connect("s.sock").close()


@pytest.mark.parametrize("path", ["", "/nonexistent/s.sock", "/etc/passwd", "/" + "x" * 200, "a\0b"])
def test_connect_fails_in_words(path: str) -> None:
    with pytest.raises(errors.SetupError, match="console socket"):
        console.connect(path)


def test_send_fails_in_words() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(errors.SetupError, match="broken pipe"):
        console.send(ours, 0)


@pytest.mark.parametrize(
    ("terminal", "path", "detached", "text"),
    [
        (True, None, False, ""),
        (True, "/s", True, ""),
        (False, None, True, ""),
        (False, None, False, ""),
        (True, None, True, "cannot allocate tty"),
        (False, "/s", True, "cannot use console socket"),
        (True, "/s", False, "cannot use console socket"),
    ],
)
def test_check(terminal: bool, path: str | None, detached: bool, text: str) -> None:
    if not text:
        console.check(terminal, path, detached)
        return
    with pytest.raises(errors.UsageError, match=text):
        console.check(terminal, path, detached)


# -- modes and sizes --------------------------------------------------------------------------


def test_raw_is_what_the_library_calls_raw() -> None:
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    mode = terminal.RawMode(slave)
    mode.enter()
    ours = termios.tcgetattr(slave)
    mode.restore()
    assert termios.tcgetattr(slave) == before
    tty.setraw(slave, termios.TCSANOW)
    assert termios.tcgetattr(slave) == ours
    os.close(master)
    os.close(slave)


def test_no_terminal() -> None:
    with open(os.devnull, "rb") as file:
        mode = terminal.RawMode(file.fileno())
        mode.enter()
        mode.restore()
        assert terminal.window_size(file.fileno()) is None


# -- the relay, as a person sees it -----------------------------------------------------------


def test_relay_is_raw_and_restores() -> None:
    """P01: one echo only, ^C reaches the program, the modes come back."""
    with Terminal(runtime("trap 'exit 7' INT; echo re'ad'y; while read x; do echo got $x; done")) as person:
        before_flags = termios.ICANON | termios.ECHO | termios.ISIG
        person.read("ready\r\n")
        assert not person.modes()[LFLAG] & before_flags
        person.type("one\n")
        assert person.read("got one\r\n").count("one") == 2
        person.type("\x03")
        assert person.wait() == 7
        assert person.modes()[LFLAG] & before_flags == before_flags


def test_relay_window_size() -> None:
    """P02: the size at the start, and after SIGWINCH."""
    script = "stty size; trap 'stty size; exit' WINCH; echo go; while :; do sleep 0.02; done"
    with Terminal(runtime(script), rows=31, columns=97) as person:
        person.read("31 97\r\ngo\r\n")
        person.resize(40, 120)
        person.read("40 120\r\n")
        assert person.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGRTMIN + 3])
def test_relay_restores_after_a_signal(number: int) -> None:
    """The signal goes to the program; when that dies of it the terminal is put right, and the code is 128 + n."""
    with Terminal(runtime("echo go; exec sleep 10")) as person:
        person.read("go\r\n")
        os.kill(person.pid, number)
        assert person.wait() == 128 + number
        assert person.modes()[LFLAG] & termios.ECHO


def test_relay_of_a_terminal_that_is_closed(tmp_path: Path) -> None:
    """The window of the user is closed: the program gets SIGHUP, as if it were in there."""
    file = tmp_path / "gone"
    with Terminal(runtime(f"trap 'echo gone >{file}; exit 3' HUP; echo go; while :; do sleep 0.01; done")) as person:
        person.read("go\r\n")
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, person.fd, inheritable=False)
        os.close(null)
        assert person.wait() == 3
    assert file.read_text() == "gone\n"


def test_relay_passes_everything() -> None:
    """All output arrives before the end, however the program hurries away."""
    with Terminal(runtime("seq 1 30000; exit 2")) as person:
        shown = person.read("")
        assert person.wait() == 2
    assert shown.split() == [str(number) for number in range(1, 30001)]


def test_relay_survives_closed_slaves() -> None:
    """An init system closes its terminal and opens it again: a hang-up of the pty is no end."""
    script = "t=$(tty); trap '' HUP; exec </dev/null >/dev/null 2>&1; sleep 0.2; echo again >$t; sleep 0.1; exit 4"
    with Terminal(runtime(script)) as person:
        person.read("again\r\n")
        assert person.wait() == 4


def test_relay_waits_without_turning() -> None:
    """No busy loop while the pty is hung up."""
    before = os.times()
    process = popen("trap '' HUP; exec </dev/null >/dev/null 2>&1; sleep 1")
    process.communicate(timeout=10)
    after = os.times()
    assert process.returncode == 0
    assert after.children_user + after.children_system - before.children_user - before.children_system < 0.5


def test_stdin_that_is_no_terminal() -> None:
    """runc refuses this; here input from a pipe is typed, and its end is an end of file."""
    process = popen("cat; echo end; exit 6")
    out, _ = process.communicate(b"a\nb\n", timeout=10)
    assert out.decode().endswith("a\r\nb\r\nend\r\n")
    assert process.returncode == 6


def test_large_input() -> None:
    """More than the pty holds goes in as the program takes it."""
    count = 20000
    process = popen("stty -echo; sleep 0.2; wc -l")
    out, _ = process.communicate(b"".join(b"%d\n" % number for number in range(count)), timeout=20)
    assert int(out.split()[-1]) == count


def test_closed_stdout_hangs_up() -> None:
    process = popen("trap 'exit 9' HUP; while :; do echo x; sleep 0.01; done")
    assert process.stdout and process.stdin
    process.stdout.read(3)
    process.stdout.close()
    assert process.wait(10) == 9
    process.stdin.close()


# -- without a terminal -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "USR1", "USR2", "QUIT", "CONT", "TSTP", "WINCH"])
def test_signals_are_forwarded(name: str) -> None:
    process = popen(f"trap 'echo {name}; exit 3' {name}; echo go; while :; do sleep 0.01; done", "plain")
    assert process.stdout and process.stdin
    process.stdout.readline()
    process.send_signal(signal.Signals[f"SIG{name}"])
    assert process.stdout.read() == f"{name}\n".encode()
    assert process.wait(10) == 3
    process.stdout.close()
    process.stdin.close()


def test_ignored_signals_stay_ignored() -> None:
    """nohup pyoci run: the hang-up is not for the container."""
    argv = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *runtime("echo go; read x; echo $x", "plain")]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    assert process.communicate(b"alive\n", timeout=10)[0] == b"alive\n"
    assert process.returncode == 0


def test_the_loop_reaps_orphans() -> None:
    """As a subreaper it collects what is not its own, and leaves the container's process to the caller."""
    argv = [*runtime("for i in 1 2 3; do (sleep 0.02 &) ; done; sleep 0.2; exit 5", "plain"), "reap"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, timeout=10)
    assert done.returncode == 5


BOTH = f"""
import os, select, signal, sys
sys.path.append({str(ROOT)!r})
from pyoci.host import foreground
pids = [os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {{code}}"], {{}}) for code in (3, 5, 7)]
for pid in pids:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
foreground._handle(signal.SIGCHLD, os.pidfd_open(pids[1]), None)
os._exit(os.waitstatus_to_exitcode(os.waitpid(pids[1], 0)[1]))
"""


def test_the_loop_leaves_the_containers_process() -> None:
    """Also when it hears of SIGCHLD in the same round as of the end: before Linux 6.15 its status would be lost."""
    assert subprocess.run(["/usr/bin/python3", "-I", "-S", "-c", BOTH], timeout=20).returncode == 5


def test_hot_path_import() -> None:
    """Only what the budget allows."""
    code = f"import os, sys, __future__; sys.path.append({str(ROOT)!r}); old = set(sys.modules); "
    code += "import pyoci.host.foreground; print(*(m for m in set(sys.modules) - old if 'pyoci' not in m))"
    done = subprocess.run(["/usr/bin/python3", "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"_signal", "_socket", "errno", "fcntl", "select", "struct", "_struct"}


def test_harness_agrees(tmp_path: Path) -> None:
    """The receiver that the integration tests use takes what we send."""
    receiver = ConsoleSocket(tmp_path / "s.sock")
    master, slave = os.openpty()
    peer = console.connect(str(receiver.path))
    console.send(peer, master)
    peer.close()
    theirs = receiver.receive()
    receiver.close()
    os.write(slave, b"hello\n")
    assert read_until(theirs, "hello")
    for number in (theirs, master, slave):
        os.close(number)
