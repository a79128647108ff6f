"""run in the foreground and detached: exit codes, signals, what stays."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.integration.harness import TIMEOUT, Box, until

TRAPS = (
    "for s in TERM HUP INT USR1 USR2 QUIT CONT; do trap \"echo $s\" $s; done; trap 'echo bye; exit 21' ALRM; "
    "echo ready; while :; do sleep 0.01; done"
)


def foreground(box: Box) -> subprocess.Popen[str]:
    """run in the background of the test, until the container says ready."""
    box.write()
    runtime = box.popen("run", "--bundle", str(box.bundle), box.id, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert runtime.stdout
    assert runtime.stdout.readline() == "ready\n"
    return runtime


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_code(box: Box, code: int) -> None:
    box.script(f"exit {code}")
    assert box.run(check=False).code == code


@pytest.mark.parametrize("number", [9, 15, 11, 6])
def test_death_by_signal_is_128_plus_n(box: Box, number: int) -> None:
    """The init of a pid namespace would not die of most of them: this one has none."""
    box.no_namespace("pid")
    box.script(f"kill -{number} $$")
    assert box.run(check=False).code == 128 + number


def test_run_deletes_the_container(box: Box) -> None:
    """L12: nothing but the output stays."""
    assert box.output("echo", "x") == "x\n"
    assert box.entries() == set()


def interrupted(box: Box) -> subprocess.Popen[str]:
    """A `run` that is stopped while its container is killed and deleted by somebody else."""
    box.args("sleep", "100")
    box.write()
    run = box.popen("run", "--bundle", str(box.bundle), box.id, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until(lambda: box.id in box.entries() and box.status == "running", "it runs")
    os.kill(run.pid, signal.SIGSTOP)
    box.kill("KILL")
    until(lambda: box.status == "stopped", "its end")
    box.delete()
    return run


def test_run_of_what_somebody_else_deletes(box: Box) -> None:
    """The exit status is that of the program, as with runc."""
    run = interrupted(box)
    os.kill(run.pid, signal.SIGCONT)
    assert run.communicate(timeout=TIMEOUT) == (None, "")
    assert run.returncode == 128 + signal.SIGKILL


def test_run_deletes_no_other_container_of_its_id(box: Box) -> None:
    """SECURITY 19: what it made is gone, and another is called the same."""
    run = interrupted(box)
    box.up()
    os.kill(run.pid, signal.SIGCONT)
    assert run.wait(timeout=TIMEOUT) == 128 + signal.SIGKILL
    assert box.status == "running"


def test_run_keep(box: Box) -> None:
    """--keep: the container stays, stopped."""
    box.script("exit 3")
    assert box.run("--keep", check=False).code == 3
    assert box.status == "stopped"
    box.delete()


def test_run_detached(box: Box) -> None:
    """--detach: back when the program runs; it is the caller's (the subreaper's) child then."""
    box.script("echo ready; sleep 100")
    with box.stdout.open("wb") as out:
        box.run("--detach", "--pid-file", str(box.bundle / "pid"), stdout=out, stderr=out)
    assert box.status == "running"
    assert (box.bundle / "pid").read_text() == str(box.pid)
    until(lambda: box.logs() == "ready\n", "its output")


@pytest.mark.parametrize("point", ["startContainer", "poststart"])
@pytest.mark.parametrize("options", [(), ("--detach",)])
def test_a_start_that_fails_leaves_no_pid_file(box: Box, options: tuple[str, ...], point: str) -> None:
    pid_file = box.bundle / "pid"
    box.config["hooks"] = {point: [{"path": "/bin/false"}]}
    assert box.run(*options, "--pid-file", str(pid_file), check=False).code == 1
    assert not pid_file.exists()


def test_a_pid_file_of_somebody_else_stays(box: Box) -> None:
    pid_file = box.bundle / "pid"
    box.hook("poststart", "/bin/sh", "sh", "-c", f"echo 1 > {pid_file}; exit 1")
    assert box.run("--pid-file", str(pid_file), check=False).code == 1
    assert pid_file.read_text() == "1\n"


def test_stdin_is_the_containers(box: Box) -> None:
    box.args("cat")
    box.write()
    done = subprocess.run(
        box.argv("run", "--bundle", str(box.bundle), box.id), input="a\nb\n", text=True, capture_output=True, timeout=20
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\nb\n", "")


def test_stdout_and_stderr_are_apart(box: Box) -> None:
    box.script("echo out; echo err >&2")
    assert box.run() == (0, "out\n", "err\n")


def test_closed_output_ends_the_program(box: Box) -> None:
    """SIGPIPE works inside (SECURITY 13)."""
    box.args("yes")
    box.write()
    runtime = box.popen("run", "--bundle", str(box.bundle), box.id, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert runtime.stdout
    runtime.stdout.read(2)
    runtime.stdout.close()
    # as init of its namespace `yes` ignores SIGPIPE's default action and sees EPIPE instead
    assert runtime.wait(10) in (1, 128 + signal.SIGPIPE)


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "USR1", "USR2", "QUIT", "CONT"])
def test_signals_are_forwarded(box: Box, name: str) -> None:
    box.script(TRAPS)
    runtime = foreground(box)
    assert runtime.stdout
    runtime.send_signal(signal.Signals["SIG" + name])
    assert runtime.stdout.readline() == f"{name}\n"
    runtime.send_signal(signal.SIGALRM)
    assert runtime.stdout.read() == "bye\n"
    assert runtime.wait(10) == 21
    runtime.stdout.close()


def test_a_child_left_by_the_program_dies_with_it(box: Box) -> None:
    """init of the pid namespace takes everything along."""
    box.script("sleep 100 & exit 5")
    assert box.run(check=False).code == 5


def test_a_child_left_in_the_hosts_pid_namespace(box: Box) -> None:
    """L12: without a pid namespace run kills what is in the cgroup."""
    box.no_namespace("pid")
    box.script("sleep 100 >/dev/null 2>&1 & exit 5")
    assert box.run(check=False).code == 5
    assert box.entries() == set()


def test_run_ends_with_init_not_with_its_output(box: Box) -> None:
    """The runtime waits for the process, not for the end of a pipe."""
    box.script("echo x; exec >/dev/null 2>&1; sleep 0.05; exit 4")
    assert box.run(check=False) == (4, "x\n", "")


def test_run_of_a_taken_id(box: Box) -> None:
    """L03"""
    box.up()
    result = box.run(check=False)
    assert result.code == 1
    assert "already exists" in result.error
    assert box.status == "running"


def test_run_reaps_orphans(box: Box) -> None:
    """run is the subreaper of its container: what a host-pid program orphans is not left a zombie."""
    box.no_namespace("pid")
    box.script("echo ready; (sh -c 'sleep 0.05' &) ; sleep 0.3; exit 0")
    runtime = foreground(box)
    assert runtime.wait(10) == 0


def test_detached_program_outlives_the_runtime_and_its_pipes(box: Box) -> None:
    """ENGINE-CONTRACT 2.2: no child of the runtime keeps its stdout open: EOF comes when the container ends."""
    read, write = os.pipe()
    box.script("echo ready; sleep 0.2")
    box.run("--detach", stdout=write, stderr=write)
    os.close(write)
    with os.fdopen(read) as stream:
        assert stream.read() == "ready\n"


@pytest.mark.parametrize("verb", ["start", "kill", "delete"])
def test_no_verb_leaves_a_child_with_its_output(box: Box, verb: str) -> None:
    """ENGINE-CONTRACT 2.2: CombinedOutput of go-runc reads to EOF while the container still runs."""
    box.args("sleep", "100")
    box.create()
    if verb != "start":
        box.start()
    arguments = {"start": [], "kill": ["CONT"], "delete": ["--force"]}[verb]
    assert (
        box.rt(verb, *(["--force"] if verb == "delete" else []), box.id, *(arguments if verb == "kill" else [])).out
        == ""
    )
