"""run, exec, attach and the rest of a container's life, by the real command on real containers."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import signal
import subprocess
import tarfile
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
import pytest

from tests.mydocker.conftest import TIMEOUT
from tests.mydocker.layers import directory, hard_link, member, symlink, tar
from tests.mydocker.real import Docker

if TYPE_CHECKING:
    from pyoci.mydocker import paths

PROMPT = r"[#$] "


def sleeper(docker: Docker, *options: str, name: str = "box") -> str:
    """A container that only sleeps; gives its id."""
    return docker.out("run", "-d", "--name", name, "--network", "none", *options, "busybox", "sleep", "600")


# -- exit codes, streams ----------------------------------------------------------------------


def test_exit_codes(docker: Docker) -> None:
    run = ("run", "--rm", "--network", "none", "busybox")
    assert docker(*run, "true").code == 0
    assert docker(*run, "sh", "-c", "exit 7").code == 7
    assert docker("run", "--rm", "--pid", "host", *run[2:], "sh", "-c", "kill -9 $$").code == 137
    missing = docker(*run, "no-such-program")
    assert missing.code == 127
    assert "executable file not found" in missing.err
    assert docker(*run, "/etc/passwd").code == 126
    assert docker(*run, "/etc").code == 126
    assert docker("run", "--rm", "--no-such-option", "busybox").code == 125
    assert docker("run", "--rm", "--pull", "never", "no/such/image", "true").code == 125


def test_streams_apart(docker: Docker) -> None:
    result = docker("run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (result.out, result.err) == ("out\n", "err\n")


def test_stdin_is_forwarded_to_its_end(docker: Docker) -> None:
    text = "".join(f"line {n}\n" for n in range(20000))
    assert docker("run", "-i", "--rm", "--network", "none", "busybox", "cat", input=text).out == text
    assert docker("run", "--rm", "--network", "none", "busybox", "cat", input=text).out == ""  # no -i: no stdin


def test_arguments_stay_a_list(docker: Docker) -> None:
    words = ["a b", "$HOME", "'", '"', "", "\\n", "-x", "--", "*"]
    script = 'for word; do echo "<$word>"; done'
    shown = docker.out("run", "--rm", "--network", "none", "busybox", "sh", "-c", script, "sh", *words)
    assert shown.split("\n") == [f"<{word}>" for word in words]


def test_environment_of_the_host_stays_outside(docker: Docker) -> None:
    env = {"SECRET_OF_HOST": "1", "ASKED": "yes"}
    shown = docker.out("run", "--rm", "--network", "none", "-e", "A=b", "-e", "ASKED", "busybox", "env", env=env)
    lines = dict(line.split("=", 1) for line in shown.splitlines())
    assert lines["A"] == "b"
    assert lines["ASKED"] == "yes"
    assert set(lines) == {"A", "ASKED", "PATH", "HOSTNAME", "HOME"} | ({"SHLVL", "PWD"} & set(lines))


def test_env_file_and_user_and_workdir(docker: Docker, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\nX=1 2\nY='q'\nNOT_HERE\n")
    options = ["--env-file", str(file), "-u", "12:34", "-w", "/made/here"]
    script = 'echo "$X|$Y|${NOT_HERE-unset}|$(id -u):$(id -g)|$(pwd)"'
    shown = docker.out("run", "--rm", "--network", "none", *options, "busybox", "sh", "-c", script)
    assert shown == "1 2|'q'|unset|12:34|/made/here"


# -- the terminal -----------------------------------------------------------------------------


def test_terminal(docker: Docker) -> None:
    child = docker.spawn("run", "-ti", "--rm", "--network", "none", "busybox", "sh", rows=30, columns=100)
    child.expect(PROMPT)
    child.sendline("stty size; tty")
    child.expect("30 100\r\n/dev/")
    child.expect(PROMPT)
    child.setwinsize(40, 120)
    docker.until(lambda: _says(child, "stty size", "40 120"), "the new size")
    child.sendline("exit 3")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 3


def _says(child: pexpect.spawn[str], line: str, wanted: str) -> bool:
    child.sendline(line)
    child.expect(r"\r\n.*" + PROMPT)
    return wanted in child.after


def test_detach_and_attach(docker: Docker) -> None:
    child = docker.spawn("run", "-ti", "--name", "box", "--network", "none", "busybox", "sh")
    child.expect(PROMPT)
    child.sendline("X=42")
    child.expect(PROMPT)
    child.send("\x10\x11")  # at once: there is half a second for the second
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert docker.status("box") == "running"
    again = docker.spawn("attach", "box")
    again.sendline("echo is $X")
    again.expect("is 42")
    again.sendline("exit 9")
    again.expect(pexpect.EOF)
    again.close()
    assert again.exitstatus == 9
    assert docker.state("box")["ExitCode"] == 9


def test_a_killed_client_gives_the_terminal_back(docker: Docker) -> None:
    child = docker.spawn("run", "-ti", "--name", "box", "--network", "none", "busybox", "sh")
    child.expect(PROMPT)
    assert not termios.tcgetattr(child.child_fd)[3] & termios.ICANON
    child.kill(signal.SIGTERM)
    docker.until(lambda: termios.tcgetattr(child.child_fd)[3] & termios.ICANON, "the old modes")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 128 + signal.SIGTERM
    assert docker.status("box") == "running"


def test_ctrl_p_alone_arrives(docker: Docker) -> None:
    """docker keeps the first key of the sequence until the next one is typed: the history of a shell needs it twice."""
    child = docker.spawn(
        "run",
        "-ti",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "stty raw -echo; echo ready; head -c 1 | od -c",
    )
    child.expect("ready")
    child.send("\x10")
    child.expect("020")
    child.expect(pexpect.EOF)
    child.close()


def test_tty_needs_a_terminal(docker: Docker) -> None:
    result = docker("run", "-ti", "--rm", "busybox", "true", input="")
    assert result.code != 0
    assert "the input device is not a TTY" in result.err


def test_signals_are_forwarded(docker: Docker) -> None:
    script = 'trap "exit 5" TERM; echo ready; while :; do sleep 0.1; done'
    child = docker.popen("run", "--rm", "--network", "none", "busybox", "sh", "-c", script, stdout=subprocess.PIPE)
    assert child.stdout
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGTERM)
    assert child.wait(TIMEOUT) == 5
    child.stdout.close()


# -- exec -------------------------------------------------------------------------------------


def test_exec(docker: Docker) -> None:
    sleeper(docker, "-e", "A=1")
    assert docker.out("exec", "-e", "B=2", "box", "sh", "-c", "echo $A$B") == "12"
    assert docker("exec", "box", "sh", "-c", "exit 9").code == 9
    assert docker("exec", "box", "no-such-program").code == 127
    assert docker("exec", "box", "/etc/passwd").code == 126
    assert docker.out("exec", "-i", "box", "cat", input="in") == "in"
    assert docker.out("exec", "-u", "1", "-w", "/tmp", "box", "sh", "-c", "id -u; pwd") == "1\n/tmp"
    child = docker.spawn("exec", "-ti", "box", "sh", rows=33, columns=99)
    child.expect(PROMPT)
    child.sendline("stty size")
    child.expect("33 99")
    child.sendline("exit 4")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 4
    docker.out("exec", "-d", "box", "sh", "-c", "echo done > /tmp/mark; sleep 60")
    docker.until(lambda: docker("exec", "box", "cat", "/tmp/mark").out == "done\n", "the detached exec")


def test_exec_on_a_stopped_container_is_an_error(docker: Docker) -> None:
    sleeper(docker)
    docker.out("stop", "-t", "0", "box")
    result = docker("exec", "box", "touch", "/tmp/mydocker-must-not-be-there")
    assert result.code == 1
    assert "is not running" in result.err
    assert not os.path.exists("/tmp/mydocker-must-not-be-there")


# -- names, records, status -------------------------------------------------------------------


def test_names_and_prefixes(docker: Docker) -> None:
    id = sleeper(docker)
    assert re.fullmatch("[0-9a-f]{64}", id)
    taken = docker("run", "-d", "--name", "box", "busybox", "true")
    assert taken.code == 125
    assert "already in use" in taken.err
    assert docker.out("inspect", "-f", "{{.Name}}", id[:10]) == "/box"
    docker.out("rename", "box", "other")
    assert docker.out("ps", "--format", "{{.Names}}") == "other"
    for name in ("../../etc", "a/b", "", "-x", "..", "a b"):
        assert docker("run", "-d", f"--name={name}", "busybox", "true").code == 125
        assert docker("rm", "--", name).code != 0
    assert docker("rm", "-f", "no-such").code == 1


def test_status_comes_from_observation(docker: Docker) -> None:
    sleeper(docker)
    pid = docker.state("box")["Pid"]
    os.kill(pid, signal.SIGKILL)
    docker.until(lambda: docker.status("box") == "exited", "the end")
    assert "Exited (137)" in docker.out("ps", "-a")
    assert docker.out("ps") == docker.out("ps", "-f", "name=nobody")  # only the heading
    docker.out("start", "box")
    assert docker.status("box") == "running"


def test_a_corrupt_record_hides_no_other(docker: Docker, places: paths.Paths) -> None:
    id = sleeper(docker, name="broken")
    sleeper(docker, name="fine")
    docker.out("stop", "-t", "0", "broken")
    Path(places.containers, id, "container.json").write_text("{")
    shown = docker("ps", "-a")
    assert shown.code == 0
    assert "fine" in shown.out
    assert id[:12] in shown.out
    assert "no valid JSON" in shown.err
    docker.out("rm", id[:12])
    assert id[:12] not in docker.out("ps", "-a")


def test_concurrent_commands_on_one_container(docker: Docker) -> None:
    docker.out("create", "--name", "box", "--network", "none", "busybox", "sleep", "600")
    racing = [docker.popen("start", "box", stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait(TIMEOUT) for process in racing] == [0] * 4
    assert docker.status("box") == "running"
    racing = [docker.popen("rm", "-f", "box", stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert 0 in [process.wait(TIMEOUT) for process in racing]
    assert docker.out("ps", "-aq") == ""


def test_one_name_for_one_of_many(docker: Docker) -> None:
    docker.out("run", "--rm", "--network", "none", "busybox", "true")
    racing = [
        docker.popen("create", "--name", "box", "busybox", "true", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(5)
    ]
    assert sorted(process.wait(TIMEOUT) for process in racing) == [0, 125, 125, 125, 125]
    assert len(docker.out("ps", "-aq").split()) == 1


# -- kill -9 ----------------------------------------------------------------------------------


def test_killed_monitor(docker: Docker) -> None:
    sleeper(docker)
    os.kill(docker.conmon("box"), signal.SIGKILL)
    assert docker.status("box") == "running"
    assert docker.out("exec", "box", "echo", "alive") == "alive"
    docker.out("stop", "-t", "0", "box")
    assert docker.status("box") == "exited"
    docker.out("start", "box")
    assert docker.status("box") == "running"
    docker.out("rm", "-f", "box")


def test_killed_log_writer(docker: Docker) -> None:
    """Output is not kept any more; the container does not notice, and the next start has a log again."""
    script = "while :; do echo tick; sleep 0.1; done"
    docker.out("run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", script)
    docker.until(lambda: "tick" in docker.logs("box"), "the log")
    writers = [pid for pid in docker.processes() if "logwriter" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(writers) == 1
    os.kill(writers[0], signal.SIGKILL)
    docker.until(lambda: writers[0] not in docker.processes(), "the end of the writer")
    assert docker.status("box") == "running"
    before = len(docker.logs("box"))
    watching = docker.popen("attach", "--no-stdin", "--sig-proxy=false", "box", stdout=subprocess.PIPE)
    assert watching.stdout
    assert watching.stdout.readline() == "tick\n"
    watching.terminate()
    watching.communicate()
    docker.out("restart", "-t", "0", "box")
    docker.until(lambda: len(docker.logs("box")) > before, "more of the log")


@pytest.mark.parametrize("delay", [0.05, 0.1, 0.14, 0.18, 0.22, 0.26, 0.3, 0.4])
def test_killed_command(docker: Docker, delay: float) -> None:
    """Whatever is there when mydocker itself is killed: ps shows it, rm -f removes it (see the docker fixture)."""
    docker.out("run", "--rm", "--network", "none", "busybox", "true")  # the image is there
    child = docker.popen(
        "run", "-d", "--name", "box", "-p", "8080:80", "busybox", "sleep", "600", stdout=subprocess.PIPE
    )
    time.sleep(delay)
    child.kill()
    child.communicate()
    for line in docker.out("ps", "-a", "--format", "{{.Names}} {{.State}}").splitlines():
        name, state = line.split()
        assert name == "box"
        assert state in ("created", "running")
        docker.out("start", "box")
        assert docker.status("box") == "running"


# -- stop, restart, pause, wait ---------------------------------------------------------------


def test_stop_signal_and_timeout(docker: Docker) -> None:
    script = 'trap "exit 6" USR1; echo ready; while :; do sleep 0.1; done'
    docker.out(
        "run", "-d", "--name", "box", "--network", "none", "--stop-signal", "USR1", "busybox", "sh", "-c", script
    )
    docker.until(lambda: docker.logs("box") == "ready", "the trap")
    docker.out("stop", "-t", "60", "box")
    assert docker.state("box")["ExitCode"] == 6
    sleeper(docker, name="deaf")  # the first process of a pid namespace has no default for TERM
    begun = time.monotonic()
    docker.out("stop", "-t", "1", "deaf")
    assert time.monotonic() - begun > 0.9
    assert docker.state("deaf")["ExitCode"] == 137


def test_pause(docker: Docker) -> None:
    sleeper(docker)
    docker.out("pause", "box")
    assert docker.status("box") == "paused"
    assert "(Paused)" in docker.out("ps")
    assert docker("exec", "box", "true").code == 1
    assert docker("pause", "box").code == 1
    docker.out("unpause", "box")
    assert docker.status("box") == "running"
    docker.out("pause", "box")
    docker.out("rm", "-f", "box")


def test_wait_and_kill(docker: Docker) -> None:
    sleeper(docker)
    waiting = _waiting(docker, "box")
    docker.out("kill", "box")
    assert waiting.communicate(timeout=TIMEOUT)[0] == "137\n"
    assert docker("kill", "box").code == 1
    docker.out("run", "-di", "--rm", "--name", "gone", "--network", "none", "busybox", "sh", "-c", "read go; exit 8")
    waiting = _waiting(docker, "gone")
    docker("attach", "gone", input="\n")
    assert waiting.communicate(timeout=TIMEOUT)[0] == "8\n"
    docker.until(lambda: "gone" not in docker.out("ps", "-a"), "--rm")


def _waiting(docker: Docker, name: str) -> subprocess.Popen[str]:
    """`wait`, which waits already."""
    marks = f"{docker.inspect(name)['Id']}.awaited-by-*"
    child = docker.popen("wait", name, stdout=subprocess.PIPE)
    docker.until(lambda: list(Path(docker.places.run, "exits").glob(marks)), "its mark")
    return child


def test_restart_policy(docker: Docker) -> None:
    options = ["-d", "--network", "none", "--restart", "on-failure:2"]
    docker.out("run", *options, "--name", "box", "busybox", "sh", "-c", "echo run; exit 3")
    docker.until(lambda: docker.status("box") == "exited", "the last restart")
    assert docker.logs("box").split() == ["run"] * 3
    assert docker.inspect("box")["RestartCount"] == 2
    docker.out("run", "-d", "--network", "none", "--restart", "always", "--name", "always", "busybox", "sleep", "600")
    pid = docker.state("always")["Pid"]
    os.kill(pid, signal.SIGKILL)
    docker.until(lambda: docker.state("always")["Pid"] not in (0, pid), "the restart")
    docker.out("stop", "-t", "0", "always")
    docker.until(lambda: not docker.processes(), "the end of everything that could start it again")
    assert docker.status("always") == "exited"
    docker.out("run", "-d", "--network", "none", "--restart", "always", "--name", "loop", "busybox", "false")
    docker.until(lambda: docker.inspect("loop")["RestartCount"] > 2, "some restarts")
    docker.until(lambda: docker.status("loop") == "restarting", "the wait for the next")
    docker.out("rm", "-f", "loop")  # and the process that waits is gone: see the fixture


def test_boot_starts_what_policies_want(docker: Docker, places: paths.Paths) -> None:
    """A reboot: every process, mount and file of RUN is gone, and nobody wrote down how it ended."""
    for name, policy in (("always", "always"), ("stopped", "unless-stopped"), ("no", "no")):
        sleeper(docker, "--restart", policy, name=name)
    docker.out("stop", "-t", "0", "stopped")
    for name in ("always", "no"):
        pid = docker.state(name)["Pid"]
        os.kill(docker.conmon(name), signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        docker.until(lambda pid=pid: not os.path.exists(f"/proc/{pid}/exe"), "the end")  # type: ignore[misc]
    assert "Exited (255)" in docker.out("ps", "-a", "-f", "name=no")
    docker.out("_boot")
    assert [docker.status(name) for name in ("always", "stopped", "no")] == ["running", "exited", "exited"]
    unit = docker.out("system", "unit")
    assert places.root in unit
    assert "ExecStart=" in unit


# -- logs -------------------------------------------------------------------------------------


def test_logs(docker: Docker) -> None:
    script = "mkfifo /go; for n in 1 2 3; do read go < /go; echo out $n; echo err $n >&2; done; printf unfinished"
    docker.out("run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", script)
    for number in range(1, 4):  # one after the other, so that each line has a time of its own
        docker.until(lambda: docker("exec", "box", "test", "-p", "/go").code == 0, "the fifo")
        docker.out("exec", "box", "sh", "-c", "echo > /go")
        docker.until(lambda n=number: f"err {n}" in docker("logs", "box").err, "a line")  # type: ignore[misc]
        docker.until(lambda n=number: f"out {n}" in docker("logs", "box").out, "the other")  # type: ignore[misc]
    docker.out("wait", "box")
    result = docker("logs", "box")
    assert result.out == "out 1\nout 2\nout 3\nunfinished"
    assert result.err == "err 1\nerr 2\nerr 3\n"
    tail = docker("logs", "--tail", "3", "box")  # the streams are read by turns
    assert sorted((tail.out + tail.err.rstrip()).split("\n")) == ["out 3", "unfinishederr 3"]
    stamped = docker("logs", "-t", "box").out.splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT[\d:.]+\S* out", line) for line in stamped[:3])
    middle = stamped[1].split()[0]
    assert "out 1" not in docker("logs", "--since", middle, "box").out
    assert "out 3" not in docker("logs", "--until", middle, "box").out
    assert docker("logs", "--since", "10m", "box").out == result.out
    assert docker("logs", "no-such").code == 1


def test_logs_rotate_and_follow(docker: Docker) -> None:
    count = 3000
    script = f"echo ready; read go; seq -w {count}; echo end"
    options = ["--log-opt", "max-size=10k", "--log-opt", "max-file=4"]
    docker.out("run", "-d", "-i", "--name", "box", "--network", "none", *options, "busybox", "sh", "-c", script)
    following = docker.popen("logs", "-f", "box", stdout=subprocess.PIPE)
    assert following.stdout
    assert following.stdout.readline() == "ready\n"
    child = docker.popen("attach", "box", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    child.communicate("go\n", timeout=TIMEOUT)
    docker.until(lambda: docker.status("box") == "exited", "the end")
    followed = following.communicate(timeout=TIMEOUT)[0].split()
    assert followed[-2:] == [str(count), "end"]
    numbers = [int(word) for word in followed[:-1]]
    assert numbers == sorted(set(numbers)), "no line twice, none out of order"
    kept = docker.logs("box").split()
    assert kept[-2:] == [str(count), "end"]
    assert [int(word) for word in kept[:-1]] == list(range(int(kept[0]), count + 1)), "what is kept has no gap"
    directory = Path(docker.inspect("box")["LogPath"]).parent
    sizes = [path.stat().st_size for path in directory.glob("json.log*")]
    assert len(sizes) == 4
    assert max(sizes) <= 10 << 10
    line = json.loads(Path(docker.inspect("box")["LogPath"]).read_text().splitlines()[-1])
    assert (line["log"], line["stream"]) == ("end\n", "stdout")


# -- limits and security ----------------------------------------------------------------------


def test_limits(docker: Docker) -> None:
    options = ["-m", "32m", "--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0", "--pids-limit", "50"]
    sleeper(docker, *options)
    usage = docker.out("stats", "--no-stream", "box")
    assert "/ 32MiB" in usage
    hosts = docker.inspect("box")["HostConfig"]
    assert (hosts["Memory"], hosts["NanoCpus"], hosts["CpuShares"], hosts["PidsLimit"]) == (
        32 << 20,
        500_000_000,
        512,
        50,
    )
    assert docker.out("exec", "box", "sh", "-c", "grep Cpus_allowed_list /proc/self/status").split()[1] == "0"
    docker.out("update", "-m", "64m", "--pids-limit", "60", "--restart", "always", "box")
    assert "/ 64MiB" in docker.out("stats", "--no-stream", "box")
    assert docker.inspect("box")["HostConfig"]["RestartPolicy"]["Name"] == "always"


def test_out_of_memory(docker: Docker) -> None:
    script = 'x=a; while :; do x="$x$x"; done'
    result = docker("run", "--name", "box", "--network", "none", "-m", "8m", "busybox", "sh", "-c", script)
    assert result.code == 137
    assert docker.state("box")["OOMKilled"] is True


def test_defaults_are_docker_s(docker: Docker) -> None:
    script = (
        "grep -E 'CapEff|CapInh|Seccomp:|NoNewPrivs' /proc/self/status; ls /proc/kcore -l; cat /sys/firmware/x; mount"
    )
    shown = docker("run", "--rm", "--network", "none", "busybox", "sh", "-c", script).out
    found = dict(re.findall(r"(\w+):\s+(\w+)", shown))
    assert found["CapEff"] == "00000000a80425fb"
    assert found["CapInh"] == "0000000000000000"
    assert found["Seccomp"] == "2"
    assert found["NoNewPrivs"] == "0"
    assert re.search(r"tmpfs on /sys/firmware ", shown)
    assert re.search(r"proc on /proc/sys .*\bro\b", shown)


def test_security_options(docker: Docker) -> None:
    status = ["busybox", "grep", "-E", "CapEff|Seccomp:|NoNewPrivs", "/proc/self/status"]

    def found(*options: str) -> dict[str, str]:
        shown = docker.out("run", "--rm", "--network", "none", *options, *status)
        return dict(re.findall(r"(\w+):\s+(\w+)", shown))

    assert found("--cap-drop", "ALL")["CapEff"] == "0" * 16
    assert found("--cap-drop", "ALL", "--cap-add", "NET_ADMIN")["CapEff"] == f"{1 << 12:016x}"
    assert found("--security-opt", "seccomp=unconfined")["Seccomp"] == "0"
    assert found("--security-opt", "no-new-privileges")["NoNewPrivs"] == "1"
    everything = found("--privileged")
    assert int(everything["CapEff"], 16).bit_count() > 30
    assert everything["Seccomp"] == "0"
    assert found("-u", "1000")["CapEff"] == "0" * 16
    assert docker("run", "--rm", "--cap-add", "NO_SUCH", "busybox", "true").code == 125


def test_seccomp_profile_is_in_force(docker: Docker) -> None:
    run = ["run", "--rm", "--network", "none", "--cap-add", "SYS_ADMIN", "--cap-drop", "SYS_TIME"]
    assert docker("run", "--rm", "--network", "none", "busybox", "unshare", "-U", "true").code != 0
    assert docker(*run, "busybox", "unshare", "-m", "true").code == 0  # SYS_ADMIN opens it
    own = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}
    path = Path(docker.places.root, "profile.json")
    path.write_text(json.dumps(own))
    refused = docker("run", "--rm", "--network", "none", "--security-opt", f"seccomp={path}", "busybox", "mkdir", "/x")
    assert refused.code == 1
    assert "not permitted" in refused.err


def test_read_only_tmpfs_volumes(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host")
    options = ["--read-only", "--tmpfs", "/scratch:size=1m", "-v", f"{tmp_path}:/host:ro", "-v", "data:/data"]
    script = "cat /host/file; touch /x; touch /host/x; touch /scratch/x && echo s; echo kept > /data/f && echo d"
    result = docker("run", "--rm", "--network", "none", *options, "busybox", "sh", "-c", script)
    assert result.out == "from the hosts\nd\n"
    assert result.err.count("Read-only file system") == 2
    again = ["--mount", "type=volume,source=data,target=/d,readonly"]
    assert docker.out("run", "--rm", "--network", "none", *again, "busybox", "cat", "/d/f") == "kept"
    assert docker("run", "--rm", "--mount", "type=bind,source=/no/such,target=/x", "busybox").code == 125
    assert docker("run", "--rm", "-v", "relative/path:/x", "busybox").code == 125


def test_other_options(docker: Docker) -> None:
    options = ["--hostname", "walnut", "--add-host", "db:10.1.2.3", "--dns", "10.9.9.9", "--shm-size", "1m"]
    options += ["--ulimit", "nofile=100:200", "--sysctl", "net.ipv4.ip_forward=1", "--device", "/dev/zero:/dev/mine:r"]
    script = "hostname; grep db /etc/hosts; cat /etc/resolv.conf; df /dev/shm | tail -1; ulimit -n; ulimit -Hn; "
    script += "cat /proc/sys/net/ipv4/ip_forward; head -c 3 /dev/mine | wc -c"
    shown = docker.out("run", "--rm", "--network", "none", *options, "busybox", "sh", "-c", script).split("\n")
    assert shown[0] == "walnut"
    assert shown[1].split() == ["10.1.2.3", "db"]
    assert shown[2] == "nameserver 10.9.9.9"
    assert shown[-5].split()[1] == "1024"
    assert shown[-4:] == ["100", "200", "1", "3"]
    assert docker("run", "--rm", "--sysctl", "kernel.panic=1", "busybox", "true").code == 125


def test_namespaces_of_others(docker: Docker) -> None:
    sleeper(docker, "--ipc", "shareable")
    docker.out("exec", "box", "sh", "-c", "echo shared > /dev/shm/file")
    look = ["sh", "-c", "for kind in net pid ipc; do readlink /proc/self/ns/$kind; done"]
    inside = docker.out("exec", "box", *look)
    join = [f"--{kind}=container:box" for kind in ("network", "pid", "ipc")]
    shown = docker.out("run", "--rm", *join, "busybox", *look)
    assert shown == inside
    assert docker.out("run", "--rm", join[2], "busybox", "cat", "/dev/shm/file") == "shared"
    docker.out("restart", "-t", "0", "box")
    host = docker.out("run", "--rm", "--network", "host", "--pid", "host", "busybox", "readlink", "/proc/self/ns/pid")
    assert host == os.readlink("/proc/self/ns/pid")
    docker.out("stop", "-t", "0", "box")
    assert docker("run", "--rm", "--network", "container:box", "busybox", "true").code == 125


def test_hostile_image(docker: Docker, tmp_path: Path) -> None:
    """USER, WORKDIR and Env of an image: names of the container's own files, made below its root."""
    docker.out(
        "run",
        "--name",
        "base",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "rm -rf /etc/passwd /home; ln -s /tmp/mydocker-hostile /home; ln -s ../../../../../../etc/shadow /etc/passwd",
    )
    changes = ["-c", "WORKDIR /home/deep", "-c", "USER 1234", "-c", "ENV LD_PRELOAD=/evil.so HOME=/root"]
    docker.out("commit", *changes, "base", "hostile:latest")
    shown = docker("run", "--rm", "--network", "none", "--entrypoint", "/bin/sh", "hostile", "-c", "id -u; pwd")
    assert shown.out.split("\n")[0] == "1234"
    assert not os.path.exists("/tmp/mydocker-hostile")
    assert docker("run", "--rm", "--network", "none", "-u", "root", "hostile", "true").code == 125


def test_dry_run_changes_nothing(docker: Docker, places: paths.Paths) -> None:
    docker.out("run", "--rm", "--network", "none", "busybox", "true")
    result = docker("run", "--dry-run", "--name", "box", "-m", "64m", "-p", "80", "busybox", "echo", "hi")
    assert result.code == 0
    config = json.loads(result.out)
    assert config["process"]["args"] == ["echo", "hi"]
    assert config["linux"]["resources"]["memory"]["limit"] == 64 << 20
    assert "pyoci" in result.err
    assert " create --bundle " in result.err
    assert docker.out("ps", "-aq") == ""
    assert not os.listdir(places.overlay)


def test_init(docker: Docker) -> None:
    shown = docker("run", "--rm", "--network", "none", "--init", "busybox", "sh", "-c", "readlink /proc/1/exe; echo $$")
    if "install tini" in shown.err:
        pytest.skip("no init program: install tini")
    assert shown.out.split("\n")[0] == "/sbin/docker-init"
    assert shown.out.split("\n")[1] != "1"


def test_cp_and_diff(docker: Docker, tmp_path: Path) -> None:
    sleeper(docker)
    (tmp_path / "a").write_text("alpha")
    docker.out("cp", str(tmp_path / "a"), "box:/tmp/b")
    assert docker.out("exec", "box", "cat", "/tmp/b") == "alpha"
    docker.out("exec", "box", "sh", "-c", "mkdir -p /d/e; echo one > /d/e/f; ln -s /etc/passwd /d/link; rm /etc/passwd")
    docker.out("cp", "box:/d", str(tmp_path / "copy"))
    assert (tmp_path / "copy" / "e" / "f").read_text() == "one\n"
    assert os.readlink(tmp_path / "copy" / "link") == "/etc/passwd"
    changed = docker.out("diff", "box").splitlines()
    assert {"A /tmp/b", "A /d", "D /etc/passwd"} <= set(changed)
    assert not [line for line in changed if "hosts" in line or line.endswith(("/proc", "/sys"))]
    docker.out("exec", "box", "ln", "-s", str(tmp_path), "/trap")
    assert docker("cp", str(tmp_path / "a"), "box:/trap/planted").code == 1  # a link to nowhere in the container
    assert not (tmp_path / "planted").exists()


def test_top_and_port(docker: Docker) -> None:
    sleeper(docker)
    shown = docker.out("top", "box").splitlines()
    assert shown[0].split() == ["UID", "PID", "PPID", "TIME", "CMD"]
    assert shown[1].endswith("sleep 600")
    assert docker.out("port", "box") == ""
    docker.out("stop", "-t", "0", "box")
    assert docker("top", "box").code == 1


def test_info_and_version(docker: Docker) -> None:
    assert docker.out("version").startswith("Version: ")
    assert "overlay" in docker.out("info").lower()


def test_cp_of_archives(docker: Docker, tmp_path: Path) -> None:
    """cp - : what comes out goes in again, compressed or not, into a container that runs or not."""
    sleeper(docker)
    docker.out(
        "exec",
        "box",
        "sh",
        "-c",
        "mkdir -p /d/e /in; echo one > /d/e/f; chown 7:8 /d/e/f; ln -s e/f /d/link; ln /d/e/f /d/h",
    )
    packed = docker.bytes("cp", "box:/d", "-")
    with tarfile.open(fileobj=io.BytesIO(packed)) as file:
        assert file.getnames() == ["d", "d/e", "d/h", "d/link", "d/e/f"]
        found = file.getmember("d/h")
        assert (found.uid, found.gid, found.size) == (7, 8, 4)
        assert file.getmember("d/link").issym()
    with tarfile.open(fileobj=io.BytesIO(docker.bytes("cp", "box:/d/e/.", "-"))) as file:
        assert [name.removeprefix("./") for name in file.getnames()] == [".", "f"]
    with tarfile.open(fileobj=io.BytesIO(docker.bytes("cp", "-L", "box:/d/link", "-"))) as file:
        assert file.getnames() == ["f"]
    docker.bytes("cp", "-", "box:/in", input=gzip.compress(packed))
    assert docker.out("exec", "box", "sh", "-c", "cat /in/d/link; stat -c %u:%g:%h /in/d/h") == "one\n7:8:2"
    docker.out("stop", "-t", "0", "box")
    docker.bytes("cp", "-", "box:/in/d", input=packed)
    assert docker.bytes("cp", "box:/in/d/d/e/f", "-") == docker.bytes("cp", "box:/d/e/f", "-")
    for wrong in (("-", "box:/nowhere"), ("-", "box:/d/h"), ("box:/nowhere", "-"), ("-", "-")):
        assert docker("cp", *wrong, input="").code == 1, wrong


def test_cp_of_hostile_archives(docker: Docker, tmp_path: Path) -> None:
    """Neither the tar nor the container leads outside, and nothing becomes of another kind."""
    sleeper(docker)
    docker.out(
        "exec",
        "box",
        "sh",
        "-c",
        f"mkdir -p /in/kept /real; echo x > /in/file; ln -s /real /in/inner; ln -s {tmp_path} /in/out",
    )
    inner = tar(member("inner/new", b"follows below the container's root"))
    docker.bytes("cp", "-", "box:/in", input=inner)
    assert docker.out("exec", "box", "ls", "/real") == "new"
    wrong = [
        tar(member("out/planted", b"x")),
        tar(member("../planted", b"x")),
        tar(symlink("l", str(tmp_path)), member("l/planted", b"x")),
        tar(hard_link("stolen", "../../../../etc/passwd")),
        tar(member("kept", b"x")),
        tar(directory("file")),
        b"no tar",
    ]
    for data in wrong:
        assert docker.bytes("cp", "-", "box:/in", input=data, code=1) == b""
    assert list(tmp_path.iterdir()) == []
    docker.bytes("cp", "-", "box:/in", input=tar(member(".wh.file"), member("pipe", type=tarfile.FIFOTYPE)))
    assert docker.out("exec", "box", "ls", "-A", "/in").split() == [".wh.file", "file", "inner", "kept", "l", "out"]


def test_attach_some_streams(docker: Docker) -> None:
    run = ["run", "--rm", "--network", "none"]
    script = ["busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]
    for streams, wanted in (
        (["stdout"], ("out\n", "")),
        (["STDERR"], ("", "err\n")),
        (["stdout", "stderr"], ("out\n", "err\n")),
    ):
        result = docker(*run, *[word for stream in streams for word in ("-a", stream)], *script)
        assert (result.code, result.out, result.err) == (3, *wanted)
    id = docker.out("run", "-i", "-a", "stdin", "--name", "box", "--network", "none", "busybox", "cat", input="text\n")
    assert id == docker.inspect("box")["Id"]
    docker.until(lambda: docker.logs("box") == "text", "the log")
    assert docker.out("wait", "box") == "0"
    assert docker(*run, "-a", "stdbad", *script).code == 125
    assert docker(*run, "-d", "-a", "stdout", *script).code == 125
    docker.out("rm", "box")


def test_logs_follow_a_restart(docker: Docker) -> None:
    """By policy or by the command: who follows sees what comes after it, and the end when it is one."""
    script = "echo run; read go; exit $go"
    docker.out(
        "run", "-di", "--name", "box", "--network", "none", "--restart", "on-failure", "busybox", "sh", "-c", script
    )
    following = docker.popen("logs", "-f", "box", stdout=subprocess.PIPE)
    assert following.stdout
    assert following.stdout.readline() == "run\n"
    docker("attach", "box", input="1\n")
    assert following.stdout.readline() == "run\n"
    docker.until(lambda: docker.status("box") == "running", "the restart")
    docker.out("restart", "-t", "0", "box")
    assert following.stdout.readline() == "run\n"
    docker.out("stop", "-t", "0", "box")
    assert following.wait(TIMEOUT) == 0
    assert following.stdout.read() == ""
    following.stdout.close()
