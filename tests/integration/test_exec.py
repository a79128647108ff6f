"""exec: P21, C24: the config's process again, with what the command line or a process.json changes."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import (
    BASIC_CAPS,
    Box,
    ConsoleSocket,
    descriptors_at,
    fd_numbers,
    proc_status,
    pyoci_only,
    status_field,
    until,
    wait_for,
)

CAP_BITS = {"CAP_KILL": 5, "CAP_NET_BIND_SERVICE": 10, "CAP_AUDIT_WRITE": 29, "CAP_SYS_TIME": 25, "CAP_NET_RAW": 13}
BASIC = sum(1 << CAP_BITS[name] for name in BASIC_CAPS)


@pytest.fixture
def running(box: Box) -> Box:
    box.process["env"].append("FROM=config")
    box.process["cwd"] = "/etc"
    box.up()
    return box


# -- what is inherited ----------------------------------------------------------------------


def test_exec_is_in_every_namespace_of_the_container(box: Box) -> None:
    """P21"""
    box.namespace("cgroup")
    box.up()
    kinds = ("mnt", "pid", "net", "ipc", "uts", "cgroup")
    seen = box.exec("sh", "-c", "for n in " + " ".join(kinds) + "; do readlink /proc/self/ns/$n; done").out.split()
    assert seen == [os.readlink(f"/proc/{box.pid}/ns/{kind}") for kind in kinds]


def test_exec_has_the_process_of_the_config(box: Box) -> None:
    """P21: user, cwd, env, capabilities, no_new_privs."""
    box.process["user"] = {"uid": 1000, "gid": 2000, "additionalGids": [3000]}
    box.process["cwd"] = "/tmp"
    box.process["env"].append("FROM=config")
    box.caps("CAP_KILL", sets="bounding effective permitted inheritable ambient")
    box.up()
    assert box.exec("sh", "-c", "id -u; id -g; pwd; echo $FROM").out.split() == ["1000", "2000", "/tmp", "config"]
    status = box.exec("cat", "/proc/self/status").out
    assert status_field(status, "Groups") == "3000"
    assert status_field(status, "NoNewPrivs") == "1"
    for field in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status_field(status, field), 16) == 1 << 5


@pyoci_only("1.1 raises the soft limit, and forgets umask and oom_score_adj")
def test_exec_has_the_limits_of_the_config(box: Box) -> None:
    """P21: rlimits, umask, oom_score_adj."""
    box.process["user"]["umask"] = 0o027
    box.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}]
    box.process["oomScoreAdj"] = 77
    box.up()
    assert box.exec("sh", "-c", "ulimit -n; umask; cat /proc/self/oom_score_adj").out.split() == ["77", "0027", "77"]


def test_exec_looks_up_the_path_of_the_container(running: Box) -> None:
    """P05"""
    assert running.exec("busybox", "echo", "found").out == "found\n"


# -- the command line -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "uid", "gid"),
    [(("--user", "1000"), 1000, 0), (("--user", "1000:2000"), 1000, 2000), (("-u", "7:8"), 7, 8), (("-u=7:8",), 7, 8)],
)
def test_user(running: Box, option: tuple[str, ...], uid: int, gid: int) -> None:
    """SECURITY 14: `exec -u 1` is uid 1."""
    status = running.rt("exec", *option, running.id, "cat", "/proc/self/status").out
    assert status_field(status, "Uid").split() == [str(uid)] * 4
    assert status_field(status, "Gid").split() == [str(gid)] * 4


@pytest.mark.parametrize(
    "user",
    [
        "nobody",
        "-1",
        "1:x",
        "1:2:3",
        pytest.param("4294967296", marks=pyoci_only("takes it modulo 2^32: root")),
    ],
)
def test_what_is_no_user(running: Box, user: str) -> None:
    """SECURITY 14"""
    assert running.rt("exec", f"--user={user}", running.id, "true", check=False).code != 0


@pyoci_only("takes numbers only")
@pytest.mark.parametrize(
    ("user", "ids", "groups"),
    [
        ("walnut", ["1000", "1000"], ["20", "30"]),
        ("walnut:nuts", ["1000", "20"], []),
        ("walnut:7", ["1000", "7"], []),
        ("5:nuts", ["5", "20"], []),
    ],
)
def test_users_by_name(running: Box, user: str, ids: list[str], groups: list[str]) -> None:
    """From the container's own files, in its root and not in its bundle: a later mount over /etc counts."""
    (running.rootfs / "etc" / "group").write_text("root:x:0:\nwalnut:x:1000:\nnuts:x:20:walnut\nmore:x:30:x,walnut\n")
    status = running.rt("exec", "--user", user, running.id, "cat", "/proc/self/status").out
    assert [status_field(status, "Uid").split()[0], status_field(status, "Gid").split()[0]] == ids
    assert status_field(status, "Groups").split() == groups


@pyoci_only("takes numbers only")
def test_users_of_a_hostile_image(running: Box) -> None:
    """SECURITY 1: a link of the image to the host's file ends in the image."""
    etc = running.rootfs / "etc"
    (etc / "passwd").unlink()
    (etc / "passwd").symlink_to("../../../../../../../../etc/passwd")
    error = running.rt("exec", "--user", "walnut", running.id, "true", check=False).error
    assert "read /etc/passwd of the container: too many levels of symbolic links" in error
    (etc / "passwd").unlink()
    (etc / "passwd").symlink_to(f"/proc/{os.getpid()}/root/etc/passwd")
    assert "unable to find user daemon" in running.rt("exec", "-u", "daemon", running.id, "true", check=False).error
    (etc / "passwd").unlink()
    os.mkfifo(etc / "passwd")
    assert "invalid argument" in running.rt("exec", "-u", "daemon", running.id, "true", check=False).error
    status = running.rt("exec", "-u", "1", running.id, "cat", "/proc/self/status").out
    assert status_field(status, "Uid").split()[0] == "1"


@pyoci_only("takes numbers only")
def test_users_by_name_in_a_user_namespace(box: Box) -> None:
    box.userns()
    box.up()
    assert box.rt("exec", "-u", "walnut", box.id, "id", "-u").out == "1000\n"


@pyoci_only("came with 1.2")
def test_pidfd_socket(running: Box, console: ConsoleSocket) -> None:
    child = running.popen(
        "exec", "--pidfd-socket", str(console.path), running.id, "sh", "-c", "read x; exit 3", stdin=subprocess.PIPE
    )
    pidfd = console.receive()
    signal.pidfd_send_signal(pidfd, 0)
    os.close(pidfd)
    child.communicate("\n")
    assert child.returncode == 3


def test_additional_gids(running: Box) -> None:
    shown = running.rt(
        "exec", "--additional-gids", "100", "--additional-gids", "200", running.id, "cat", "/proc/self/status"
    ).out
    assert status_field(shown, "Groups").split() == ["100", "200"]


def test_env_and_cwd(running: Box) -> None:
    script = "echo $A $B $FROM; pwd"
    shown = running.rt("exec", "-e", "A=1", "-e=B=two words", "--cwd", "/tmp", running.id, "sh", "-c", script).out
    assert shown == "1 two words config\n/tmp\n"
    assert running.exec("pwd").out == "/etc\n"


def test_env_overrides(running: Box) -> None:
    shown = running.rt("exec", "--env", "FROM=exec", running.id, "sh", "-c", "echo $FROM").out
    assert shown == "exec\n"


def test_cap(running: Box) -> None:
    """SECURITY 12: exactly one more."""
    status = running.rt("exec", "--cap", "CAP_NET_RAW", running.id, "cat", "/proc/self/status").out
    wanted = BASIC | 1 << CAP_BITS["CAP_NET_RAW"]
    assert int(status_field(status, "CapBnd"), 16) == wanted
    assert int(status_field(status, "CapEff"), 16) == wanted
    assert int(status_field(status, "CapAmb"), 16) == 0


def test_no_new_privs(box: Box) -> None:
    box.process["noNewPrivileges"] = False
    box.up()
    assert status_field(box.exec("cat", "/proc/self/status").out, "NoNewPrivs") == "0"
    shown = box.rt("exec", "--no-new-privs", box.id, "cat", "/proc/self/status").out
    assert status_field(shown, "NoNewPrivs") == "1"


def test_options_end_at_the_id(running: Box) -> None:
    """What follows the id is the command's."""
    assert running.exec("echo", "-u", "--env", "-t").out == "-u --env -t\n"


# -- process.json ---------------------------------------------------------------------------


def test_process_json(running: Box) -> None:
    """ENGINE-CONTRACT 2.1: --process is the whole process: nothing of the config's is mixed in."""
    process: dict[str, Any] = {
        "user": {"uid": 5, "gid": 6, "additionalGids": [9]},
        "args": ["sh", "-c", "id -u; id -g; id -G; pwd; echo .$FROM.$X."],
        "env": ["PATH=/bin", "X=json"],
        "cwd": "/tmp",
    }
    assert running.exec_json(process).out == "5\n6\n6 9\n/tmp\n..json.\n"


def test_process_json_attributes(running: Box) -> None:
    process: dict[str, Any] = {
        "user": {"uid": 0, "gid": 0},
        "args": ["cat", "/proc/self/status", "/proc/self/limits"],
        "env": ["PATH=/bin"],
        "cwd": "/",
        "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 33, "hard": 44}],
        "noNewPrivileges": True,
    }
    shown = running.exec_json(process).out
    assert {status_field(shown, name) for name in ("CapEff", "CapPrm", "CapBnd")} == {f"{1 << 5:016x}"}
    limit = next(line for line in shown.splitlines() if line.startswith("Max open files"))
    assert limit.split()[4] == "44"  # runc 1.1 raises the soft one


def test_process_json_without_a_user(running: Box) -> None:
    process = {"args": ["sh", "-c", "id -u; id -g; umask"], "env": ["PATH=/bin"], "cwd": "/"}
    assert running.exec_json(process).out.splitlines()[:2] == ["0", "0"]


@pyoci_only("the place in what was given")
def test_bad_process_json_says_where(running: Box) -> None:
    process = {"args": ["true"], "cwd": "tmp", "user": {"uid": 0, "gid": 0}}
    assert "(process /cwd)" in running.exec_json(process, check=False).err
    error = running.exec_json({"args": [""], "cwd": "/"}, check=False).error
    assert "there is no program to execute" in error
    assert "config.json" not in error
    below = running.rt("exec", "--cgroup", "nosuch", running.id, "true", check=False)
    assert below.code == 255
    assert "config.json" not in below.err


@pyoci_only("1.1 forgets oomScoreAdj")
def test_process_json_oom_score_adj(running: Box) -> None:
    process = dict(running.process, args=["cat", "/proc/self/oom_score_adj"], oomScoreAdj=55)
    assert running.exec_json(process).out == "55\n"


def test_process_json_with_pid_file_and_detach(running: Box) -> None:
    """As conmon and the shim call it."""
    file = running.bundle / "exec.pid"
    process = dict(running.process, args=["sh", "-c", "exit 11"])
    running.exec_json(process, "--detach", "--pid-file", str(file), stdout=None, stderr=None)
    assert file.read_text().isdigit()
    assert wait_for(int(file.read_text())) == 11


@pytest.mark.parametrize(
    "process",
    [{}, {"args": ["true"]}, {"args": [], "cwd": "/"}, {"args": ["true"], "cwd": "tmp"}, {"args": "true", "cwd": "/"}],
)
def test_bad_process_json(running: Box, process: dict[str, Any]) -> None:
    """L24"""
    assert running.exec_json(process, check=False).code != 0
    assert running.status == "running"


# -- codes, fds, tty, detach ----------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 3, 255])
def test_exit_code(running: Box, code: int) -> None:
    assert running.exec("sh", "-c", f"exit {code}", check=False).code == code


@pytest.mark.parametrize("number", [9, 15])
def test_death_by_signal(running: Box, number: int) -> None:
    assert running.exec("sh", "-c", f"kill -{number} $$", check=False).code == 128 + number


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("nosuch", 'exec: "nosuch": executable file not found in $PATH'),
        ("/bin/nosuch", 'exec: "/bin/nosuch": stat /bin/nosuch: no such file or directory'),
        ("/etc/notexec", 'exec: "/etc/notexec": permission denied'),
    ],
)
def test_command_that_cannot_be_run(running: Box, command: str, text: str) -> None:
    """ENGINE-CONTRACT 2.3: 255 and the words engines look for."""
    result = running.exec(command, check=False)
    assert result.code == 255
    assert text in result.error.replace('\\"', '"')


def test_exec_without_a_command(running: Box) -> None:
    assert running.exec(check=False).code != 0


def test_exec_in_what_does_not_run(box: Box) -> None:
    """Unknown: does not exist; stopped: an error; created is allowed."""
    result = box.exec("true", check=False)
    assert result.code != 0
    assert "container does not exist" in result.error
    box.create()
    assert box.exec("hostname").out == "box\n"
    assert box.finish() == 0
    result = box.exec("true", check=False)
    assert result.code != 0
    assert "stopped" in result.error or "not running" in result.error


def test_stdin(running: Box) -> None:
    read, write = os.pipe()
    os.write(write, b"typed\n")
    os.close(write)
    assert running.exec("cat", stdin=read).out == "typed\n"
    os.close(read)


def test_detach(running: Box) -> None:
    """The process stays; its parent is the caller's subreaper."""
    file = running.bundle / "exec.pid"
    running.rt("exec", "-d", "--pid-file", str(file), running.id, "sleep", "99", stdout=None, stderr=None)
    pid = int(file.read_text())
    until(lambda: "sleep" in Path(f"/proc/{pid}/cmdline").read_text(), "sleep")
    assert int(proc_status(pid, "PPid")) == os.getpid()
    os.kill(pid, 9)
    assert wait_for(pid) == -9


def test_only_stdio_is_open(running: Box) -> None:
    """L25"""
    extra = os.open("/etc", os.O_RDONLY)
    assert fd_numbers(running.exec("probe", "fds", pass_fds=[extra]).out) == [0, 1, 2]
    os.close(extra)


def test_preserve_fds(running: Box) -> None:
    """L26"""
    with descriptors_at(3, Path("/etc/hostname"), Path("/etc/passwd")) as numbers:
        shown = running.rt("exec", "--preserve-fds", "1", running.id, "probe", "fds", pass_fds=numbers).out
    assert fd_numbers(shown) == [0, 1, 2, 3]


def test_exec_in_a_user_namespace(box: Box) -> None:
    """N05 P21"""
    box.userns()
    box.process["user"] = {"uid": 7, "gid": 8, "additionalGids": [9]}
    box.up()
    status = box.exec("cat", "/proc/self/status", "/proc/self/uid_map").out
    assert status_field(status, "Uid").split() == ["7"] * 4
    assert status_field(status, "Groups") == "9"
    assert status.splitlines()[-1].split() == ["0", "100000", "65536"]


def test_exec_ends_with_its_process_not_with_the_output(running: Box) -> None:
    """A grandchild that keeps running, its output elsewhere, does not hold exec."""
    assert running.exec("sh", "-c", "sleep 5 >/dev/null 2>&1 & exit 3", check=False).code == 3


def test_many_at_once(running: Box) -> None:
    """exec needs no lock that another exec holds."""
    racers = [running.popen("exec", running.id, "sh", "-c", f"sleep 0.2; exit {n}") for n in range(4)]
    assert [racer.wait(20) for racer in racers] == [0, 1, 2, 3]


def test_container_that_ends_takes_exec_along(running: Box) -> None:
    """exec of a process that is killed with its container returns 137."""
    racer = running.popen("exec", running.id, "sh", "-c", "echo ready; exec sleep 100", stdout=subprocess.PIPE)
    assert racer.stdout
    assert racer.stdout.readline() == "ready\n"
    running.kill("KILL")
    assert racer.wait(10) == 137


@pyoci_only("1.1 has no --user check of the maps: the kernel's EINVAL names nothing")
def test_user_outside_of_the_maps(box: Box) -> None:
    """N05 L06"""
    box.userns(size=100)
    box.up()
    result = box.rt("exec", "--user", "500", box.id, "true", check=False)
    assert result.code != 0
    assert result.error
