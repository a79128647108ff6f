"""Terminals: P01 P02, --console-socket, and a person at the foreground of run and exec."""

from __future__ import annotations

import json
import os
import signal
import stat
import termios
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import Box, ConsoleSocket, Terminal, pyoci_only, read_until, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

LFLAG = 3  # index in what tcgetattr returns


@pytest.fixture
def shell(box: Box) -> Box:
    box.process["terminal"] = True
    box.args("sh")
    return box


@pytest.fixture
def person(shell: Box) -> Iterator[Terminal]:
    """Someone who typed `run` with a shell as the container."""
    shell.write()
    with Terminal(shell.argv("run", "--bundle", str(shell.bundle), shell.id), rows=31, columns=97) as terminal:
        terminal.read("# ")
        yield terminal


# -- create with a console socket -----------------------------------------------------------


def test_console_socket_gets_the_pty_of_the_container(shell: Box, console: ConsoleSocket) -> None:
    """P01 L04: the master comes while create runs; what is typed reaches the shell once it started."""
    shell.create("--console-socket", str(console.path))
    master = console.receive()
    assert shell.status == "created"
    pid = shell.pid
    shell.start()
    os.write(master, b"tty; echo 4$((1 + 1)); exit 6\n")
    assert "/dev/pts/0" in read_until(master, "42\r\n")
    assert wait_for(pid) == 6
    os.close(master)


def test_terminal_is_the_stdio_and_the_controlling_tty(shell: Box, console: ConsoleSocket) -> None:
    """P01: fds 0, 1, 2 are the slave of the container's own devpts, also seen as /dev/console."""
    shell.script("ls -l /proc/self/fd; ls -l /dev/console; cat /proc/self/stat; mount | grep console; echo end")
    shell.create("--console-socket", str(console.path))
    master = console.receive()
    pid = shell.pid
    shell.start()
    shown = read_until(master, "end\r\n")
    assert all(f"{fd} -> /dev/pts/0" in shown for fd in range(3))
    assert "crw" in shown and "136," in shown
    assert "devpts on /dev/console" in shown
    fields = shown.split(" (cat) ")[1].split()
    assert int(fields[3]) == 1, "not in the session of init"
    assert int(fields[4]) == 136 << 8, "the pty is not the controlling terminal"
    wait_for(pid)
    os.close(master)


def test_terminal_belongs_to_the_user(shell: Box, console: ConsoleSocket) -> None:
    """P01: the user of the container owns its terminal."""
    shell.process["user"] = {"uid": 1000, "gid": 1000}
    shell.script("stat -c %u $(tty); echo > /dev/pts/0 && echo end")
    shell.create("--console-socket", str(console.path))
    master = console.receive()
    pid = shell.pid
    shell.start()
    assert "1000\r\n" in read_until(master, "end\r\n")
    wait_for(pid)
    os.close(master)


def test_console_size(shell: Box, console: ConsoleSocket) -> None:
    """P02"""
    shell.process["consoleSize"] = {"height": 33, "width": 111}
    shell.args("stty", "size")
    shell.create("--console-socket", str(console.path))
    master = console.receive()
    assert termios.tcgetwinsize(master) == (33, 111)
    pid = shell.pid
    shell.start()
    read_until(master, "33 111\r\n")
    wait_for(pid)
    os.close(master)


def test_console_size_is_ignored_without_terminal(box: Box) -> None:
    """P02"""
    box.process["consoleSize"] = {"height": 33, "width": 111}
    assert box.output("echo", "fine") == "fine\n"


def test_master_is_a_pty_master(shell: Box, console: ConsoleSocket) -> None:
    """P01: ptmx of a devpts, open for reading and writing."""
    shell.create("--console-socket", str(console.path))
    master = console.receive()
    status = os.fstat(master)
    assert stat.S_ISCHR(status.st_mode)
    assert os.major(status.st_rdev) == 5
    shell.delete("--force")
    os.close(master)


def test_create_with_terminal_wants_a_console_socket(shell: Box) -> None:
    """L06: and says so; nothing stays."""
    result = shell.create(check=False)
    assert result.code == 1
    assert "console" in result.error
    assert shell.entries() == set()


def test_run_detached_with_terminal_wants_a_console_socket(shell: Box) -> None:
    result = shell.run("--detach", check=False)
    assert result.code == 1
    assert "console" in result.error
    assert shell.entries() == set()


def test_console_socket_without_terminal(box: Box, console: ConsoleSocket) -> None:
    """A console socket that nothing would come over is refused."""
    result = box.create("--console-socket", str(console.path), check=False)
    assert result.code == 1
    assert "console" in result.error
    assert box.entries() == set()


def test_console_socket_that_is_not_there(shell: Box) -> None:
    """L06 L21"""
    result = shell.create("--console-socket", str(shell.bundle / "none.sock"), check=False)
    assert result.code == 1
    assert "none.sock" in result.error
    assert shell.entries() == set()


def test_run_detached_with_console_socket(shell: Box, console: ConsoleSocket) -> None:
    shell.run("--detach", "--console-socket", str(console.path), stdout=None, stderr=None)
    master = console.receive()
    pid = shell.pid
    os.write(master, b"exit 4\n")
    assert wait_for(pid) == 4
    os.close(master)


# -- in the foreground ----------------------------------------------------------------------


def test_foreground_shell(person: Terminal) -> None:
    """P01: a working shell: tty, echo by the inner terminal only, the exit code."""
    person.type("tty; exit 9\n")
    shown = person.read("/dev/pts/0")
    assert shown.count("tty; exit 9") == 1
    assert person.wait() == 9


def test_foreground_window_size(person: Terminal) -> None:
    """P02: the size of the outer terminal, also after it changed."""
    person.type("stty size\n")
    person.read("31 97\r\n")
    person.resize(40, 120)
    person.type("until [ \"$(stty size)\" = '40 120' ]; do sleep 0.01; done; echo re'si'zed; exit\n")
    person.read("resized\r\n")
    assert person.wait() == 0


def test_foreground_control_c_goes_to_the_container(person: Terminal) -> None:
    """The outer terminal is raw: ^C interrupts the program inside, not the runtime."""
    person.type("sh -c 'echo sle''eping; exec sleep 100'\n")
    person.read("sleeping\r\n")
    person.type("\x03")
    person.read("# ")
    person.type("echo co'd'e $?; exit 3\n")
    person.read("code 130\r\n")
    assert person.wait() == 3


def test_foreground_terminal_is_restored(person: Terminal) -> None:
    """Raw while it runs, as it was when it has ended."""
    assert not person.modes()[LFLAG] & (termios.ICANON | termios.ECHO | termios.ISIG)
    with_runtime = person.modes()
    person.type("exit\n")
    assert person.wait() == 0
    after = person.modes()
    assert after != with_runtime
    assert after[LFLAG] & termios.ICANON and after[LFLAG] & termios.ECHO and after[LFLAG] & termios.ISIG


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_foreground_terminal_is_restored_after_a_signal(person: Terminal, number: signal.Signals) -> None:
    """However it ends: here the signal is forwarded and kills the program."""
    person.type("trap 'exit 8' TERM HUP; echo tr'ap's; while :; do sleep 0.01; done\n")
    person.read("traps\r\n")
    os.kill(person.pid, number)
    assert person.wait() == 8
    assert person.modes()[LFLAG] & termios.ECHO


def test_foreground_output_is_complete(shell: Box) -> None:
    """Everything the program wrote arrives before the runtime ends."""
    shell.script("seq 1 20000; exit 2")
    shell.write()
    with Terminal(shell.argv("run", "--bundle", str(shell.bundle), shell.id)) as terminal:
        shown = read_until(terminal.fd, "", timeout=20)
        assert terminal.wait() == 2
    assert shown.split() == [str(n) for n in range(1, 20001)]


def test_foreground_closed_terminal(person: Terminal, shell: Box) -> None:
    """When the outer terminal goes away the container gets SIGHUP as a program there would."""
    person.type("trap 'echo gone > /gone; exit' HUP; echo tr'ap's; while :; do sleep 0.01; done\n")
    person.read("traps\r\n")
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, person.fd, inheritable=False)
    os.close(null)
    wait_for(person.pid)
    assert (shell.rootfs / "gone").read_text() == "gone\n"


# -- exec -----------------------------------------------------------------------------------


def test_exec_tty_in_the_foreground(box: Box) -> None:
    """P21: exec --tty gives a new pty of the container."""
    box.up()
    with Terminal(box.argv("exec", "--tty", box.id, "sh"), rows=20, columns=60) as terminal:
        terminal.read("# ")
        terminal.type("tty; stty size; exit 5\n")
        terminal.read("/dev/pts/0\r\n20 60\r\n")
        assert terminal.wait() == 5


def test_exec_tty_with_console_socket(box: Box, console: ConsoleSocket) -> None:
    """ENGINE-CONTRACT 2.1: as the containerd shim and conmon call it; terminal of the process JSON decides."""
    box.up()
    process = dict(box.process, terminal=True, args=["sh"], consoleSize={"height": 12, "width": 34})
    file = box.bundle / "pid"
    box.exec_json(
        process, "--console-socket", str(console.path), "--detach", "--pid-file", str(file), stdout=None, stderr=None
    )
    master = console.receive()
    os.write(master, b"tty; stty size; exit 7\n")
    read_until(master, "/dev/pts/0\r\n12 34\r\n")
    assert wait_for(int(file.read_text())) == 7
    os.close(master)


@pyoci_only("1.1 takes the terminal of --process only together with --tty")
def test_exec_json_decides_the_terminal(box: Box) -> None:
    box.up()
    file = box.bundle / "process.json"
    file.write_text(json.dumps(dict(box.process, terminal=True, args=["tty"])))
    with Terminal(box.argv("exec", "--process", str(file), box.id)) as terminal:
        terminal.read("/dev/pts/0\r\n")
        assert terminal.wait() == 0


def test_exec_tty_detached_wants_a_console_socket(box: Box) -> None:
    box.up()
    result = box.rt("exec", "--tty", "--detach", box.id, "sh", check=False)
    assert result.code != 0
    assert "console" in result.error
