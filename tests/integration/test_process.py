"""The process (config.md, process): P03-P18, and what it must not inherit from the runtime."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.harness import BASIC_CAPS, Box, proc_status, pyoci_only, status_field

STATUS = ("cat", "/proc/self/status")


# -- args, env, cwd -------------------------------------------------------------------------


def test_args_and_exit_code(box: Box) -> None:
    """P05: args is the whole argv, kept byte for byte."""
    box.script('printf "%s|" "$0" "$@"; exit 5')
    box.process["args"] += ["zero", "", "two words", "ü", "$HOME", "-x"]
    result = box.run(check=False)
    assert result.out == "zero||two words|ü|$HOME|-x|"
    assert result.code == 5


def test_env_is_exactly_the_config(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P04: nothing of the runtime's environment but HOME, which is looked up when absent."""
    monkeypatch.setenv("LEAK", "1")
    monkeypatch.setenv("HOME", "/from/the/caller")
    box.process["env"] = ["PATH=/bin", "A=b=c", "EMPTY=", "LINES=a\nb"]
    seen = box.output("cat", "/proc/self/environ").split("\0")[:-1]
    assert sorted(seen) == ["A=b=c", "EMPTY=", "HOME=/root", "LINES=a\nb", "PATH=/bin"]


@pytest.mark.parametrize(("uid", "home"), [(0, "/root"), (1000, "/home/walnut"), (4711, "/")])
def test_home_comes_from_passwd_of_the_container(box: Box, uid: int, home: str) -> None:
    box.process["user"] = {"uid": uid, "gid": uid}
    assert box.sh("echo $HOME") == f"{home}\n"


def test_home_of_the_config_stays(box: Box) -> None:
    box.process["env"].append("HOME=/tmp")
    assert box.sh("echo $HOME") == "/tmp\n"


def test_path_lookup_uses_the_path_of_the_container(box: Box) -> None:
    """P05: execvp with PATH of process.env, never the runtime's."""
    (box.rootfs / "opt").mkdir()
    (box.rootfs / "opt/tool").write_text("#!/bin/sh\necho $0\n")
    (box.rootfs / "opt/tool").chmod(0o755)
    box.process["env"] = ["PATH=/nowhere:/opt:/bin"]
    assert box.output("tool") == "/opt/tool\n"


def test_relative_command_is_relative_to_cwd(box: Box) -> None:
    """P05: a name with a slash is not searched for."""
    (box.rootfs / "opt/sub").mkdir(parents=True)
    (box.rootfs / "opt/sub/tool").write_text("#!/bin/sh\npwd\n")
    (box.rootfs / "opt/sub/tool").chmod(0o755)
    box.process["cwd"] = "/opt"
    assert box.output("sub/tool") == "/opt\n"


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("nosuch", 'exec: "nosuch": executable file not found in $PATH'),
        ("/bin/nosuch", 'exec: "/bin/nosuch": stat /bin/nosuch: no such file or directory'),
        ("/etc/notexec", 'exec: "/etc/notexec": permission denied'),
        ("/etc", 'exec: "/etc": permission denied'),
        ("/etc/passwd/x", 'exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory'),
    ],
)
def test_a_command_that_cannot_be_run_fails_create(box: Box, command: str, text: str) -> None:
    """P05 L06: found by create, with the words engines turn into 126 and 127 (ENGINE-CONTRACT 2.3)."""
    box.args(command)
    result = box.create(check=False)
    assert result.code == 1
    assert text in result.error.replace('\\"', '"')
    assert box.entries() == set()


def test_exec_format_error_is_the_programs_own_failure(box: Box) -> None:
    """ENGINE-CONTRACT 2.3: only execve finds it; the container exits 1 and says why on its stderr."""
    (box.rootfs / "bin/badformat").write_bytes(b"\0nonsense")
    (box.rootfs / "bin/badformat").chmod(0o755)
    box.args("badformat")
    box.create()
    assert box.finish() == 1
    assert "exec /bin/badformat: exec format error" in box.stderr.read_text()


def test_cwd(box: Box) -> None:
    """P03"""
    box.process["cwd"] = "/home/walnut"
    assert box.output("pwd") == "/home/walnut\n"


def test_missing_cwd_is_made(box: Box) -> None:
    """P03: as runc does, inside the rootfs."""
    box.process["cwd"] = "/a/b/c"
    assert box.output("pwd") == "/a/b/c\n"
    assert (box.rootfs / "a/b/c").is_dir()


def test_cwd_is_entered_as_the_user(box: Box) -> None:
    """P03: a directory only the container user may enter."""
    private = box.rootfs / "home/walnut"
    os.chown(private, 1000, 1000)
    private.chmod(0o700)
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.process["cwd"] = "/home/walnut"
    box.caps()
    assert box.output("pwd") == "/home/walnut\n"


def test_cwd_that_cannot_be_entered(box: Box) -> None:
    """P03 L06"""
    box.process["cwd"] = "/etc/passwd"
    result = box.create(check=False)
    assert result.code == 1
    assert "/etc/passwd" in result.error
    assert box.entries() == set()


def test_cwd_must_be_absolute(box: Box) -> None:
    """P03"""
    box.process["cwd"] = "home"
    assert box.create(check=False).code == 1


# -- user -----------------------------------------------------------------------------------


def test_user_and_groups(box: Box) -> None:
    """P17: exactly the ids of the config."""
    box.process["user"] = {"uid": 1000, "gid": 2000, "additionalGids": [5, 3000, 100]}
    status = box.output(*STATUS)
    assert status_field(status, "Uid").split() == ["1000"] * 4
    assert status_field(status, "Gid").split() == ["2000"] * 4
    assert status_field(status, "Groups").split() == ["5", "100", "3000"]


def test_many_groups(box: Box) -> None:
    """P17: as many as the kernel takes (NGROUPS_MAX)."""
    box.process["user"]["additionalGids"] = list(range(1, 65537))
    box.args("cat", "/proc/self/status")
    assert len(status_field(box.run().out, "Groups").split()) == 65536


def test_no_additional_groups(box: Box) -> None:
    """P17: the caller's groups are dropped."""
    os.setgroups([7, 8])
    try:
        assert status_field(box.output(*STATUS), "Groups") == ""
    finally:
        os.setgroups([])


@pytest.mark.parametrize("umask", [0o077, 0, 0o022])
def test_umask(box: Box, umask: int) -> None:
    """P18"""
    box.process["user"]["umask"] = umask
    assert int(box.sh("umask"), 8) == umask


@pyoci_only("sets 0022 when the config has none")
def test_unset_umask_is_the_callers(box: Box) -> None:
    """P18"""
    old = os.umask(0o027)
    try:
        assert int(box.sh("umask"), 8) == 0o027
    finally:
        os.umask(old)


def test_the_callers_umask_does_not_shape_the_container(box: Box) -> None:
    """P18: what the runtime makes has the modes it should have."""
    old = os.umask(0o077)
    try:
        shown = box.sh("stat -c '%a %n' /dev/null /dev/pts /dev/shm /dev")
    finally:
        os.umask(old)
    assert shown == "666 /dev/null\n755 /dev/pts\n1777 /dev/shm\n755 /dev\n"


# -- limits and attributes ------------------------------------------------------------------


def test_rlimits(box: Box) -> None:
    """P06: soft and hard of each type."""
    box.process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_CPU", "soft": 100, "hard": 200},
        {"type": "RLIMIT_FSIZE", "soft": 1 << 30, "hard": (1 << 64) - 1},
    ]
    lines = {line[:20].strip(): line[20:].split()[:2] for line in box.output("cat", "/proc/self/limits").splitlines()}
    assert lines["Max open files"] == ["64", "128"]
    assert lines["Max core file size"] == ["0", "0"]
    assert lines["Max cpu time"] == ["100", "200"]
    assert lines["Max file size"] == [str(1 << 30), "unlimited"]


@pytest.mark.parametrize(
    "rlimits",
    [
        [{"type": "RLIMIT_FROB", "soft": 1, "hard": 1}],
        [{"type": "NOFILE", "soft": 1, "hard": 1}],
        [{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 10}],
    ],
)
def test_bad_rlimits(box: Box, rlimits: list[dict[str, object]]) -> None:
    """P06 L06: a type the system does not know, a soft limit above the hard one."""
    box.process["rlimits"] = rlimits
    result = box.create(check=False)
    assert result.code == 1
    assert result.error
    assert box.entries() == set()


@pyoci_only("takes the last one")
def test_duplicate_rlimit(box: Box) -> None:
    """P07"""
    box.process["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}] * 2
    result = box.create(check=False)
    assert result.code == 1
    assert "RLIMIT_CORE" in result.error or "rlimits" in result.error


def test_oom_score_adj(box: Box) -> None:
    """P12: set is written."""
    box.process["oomScoreAdj"] = 321
    assert box.output("cat", "/proc/self/oom_score_adj") == "321\n"


def test_unset_oom_score_adj_is_unchanged(box: Box) -> None:
    """P12"""
    mine = Path("/proc/self/oom_score_adj").read_text()
    assert box.output("cat", "/proc/self/oom_score_adj") == mine


@pytest.mark.parametrize("value", [True, False])
def test_no_new_privileges(box: Box, value: bool) -> None:
    """P11"""
    box.process["noNewPrivileges"] = value
    assert status_field(box.output(*STATUS), "NoNewPrivs") == str(int(value))


@pyoci_only("the caller's mask and ignored signals get in")
def test_signals_are_reset(box: Box) -> None:
    """SECURITY 13, ENGINE-CONTRACT 2.2: no ignored or blocked signal of the caller (or of CPython) gets in."""
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        # restore_signals only concerns SIGPIPE and SIGXFSZ: let the runtime get those ignored, too
        box.args(*STATUS)
        status = box.run(restore_signals=False).out
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        signal.signal(signal.SIGHUP, old)
    assert int(status_field(status, "SigBlk"), 16) == 0
    assert int(status_field(status, "SigIgn"), 16) == 0


def test_session(box: Box) -> None:
    """The container leads a session of its own without a controlling terminal."""
    fields = box.output("cat", "/proc/self/stat").rpartition(")")[2].split()
    session, tty = int(fields[3]), int(fields[4])
    assert (session, tty) == (1, 0)


def test_process_is_not_dumpable_to_others_while_created(box: Box) -> None:
    """SECURITY 10: /proc of the waiting init belongs to host root whatever the user."""
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.create()
    assert Path(f"/proc/{box.pid}/environ").stat().st_uid == 0


# -- capabilities ---------------------------------------------------------------------------

SETS = {
    "bounding": "CapBnd",
    "effective": "CapEff",
    "permitted": "CapPrm",
    "inheritable": "CapInh",
    "ambient": "CapAmb",
}
BITS = {"CAP_CHOWN": 0, "CAP_KILL": 5, "CAP_NET_BIND_SERVICE": 10, "CAP_SYS_ADMIN": 21, "CAP_AUDIT_WRITE": 29}


def capability_sets(status: str) -> dict[str, int]:
    return {name: int(status_field(status, field), 16) for name, field in SETS.items()}


def mask(*names: str) -> int:
    return sum(1 << BITS[name] for name in names)


def test_capabilities_of_root(box: Box) -> None:
    """P09, CVE-2022-29162: the three sets of the config; inheritable and ambient stay empty."""
    sets = capability_sets(box.output(*STATUS))
    basic = mask(*BASIC_CAPS)
    assert sets == {"bounding": basic, "effective": basic, "permitted": basic, "inheritable": 0, "ambient": 0}


def test_capabilities_of_another_user(box: Box) -> None:
    """P09: without ambient ones a user other than root has none after execve, but the bounding set holds."""
    box.process["user"] = {"uid": 1000, "gid": 1000}
    sets = capability_sets(box.output(*STATUS))
    assert sets == {"bounding": mask(*BASIC_CAPS), "effective": 0, "permitted": 0, "inheritable": 0, "ambient": 0}


def test_ambient_capabilities(box: Box) -> None:
    """P09: ambient ones survive execve of a user."""
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.caps("CAP_KILL", sets=" ".join(SETS))
    assert capability_sets(box.output(*STATUS)) == dict.fromkeys(SETS, mask("CAP_KILL"))


def test_each_set_on_its_own(box: Box) -> None:
    """P09: five different sets; noted before execve, in the created process, and after."""
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.process["capabilities"] = {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SYS_ADMIN", "CAP_AUDIT_WRITE"],
        "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_AUDIT_WRITE"],
        "effective": ["CAP_CHOWN"],
        "inheritable": ["CAP_KILL", "CAP_AUDIT_WRITE"],
        "ambient": ["CAP_KILL"],
    }
    assert capability_sets(box.output(*STATUS)) == {
        "bounding": mask("CAP_CHOWN", "CAP_KILL", "CAP_SYS_ADMIN", "CAP_AUDIT_WRITE"),
        "permitted": mask("CAP_KILL"),
        "effective": mask("CAP_KILL"),
        "inheritable": mask("CAP_KILL", "CAP_AUDIT_WRITE"),
        "ambient": mask("CAP_KILL"),
    }


def test_no_capabilities(box: Box) -> None:
    """P09: empty sets."""
    box.caps(sets=" ".join(SETS))
    assert capability_sets(box.output(*STATUS)) == dict.fromkeys(SETS, 0)


@pyoci_only("keeps all capabilities of the caller")
def test_absent_capabilities_are_none(box: Box) -> None:
    """P09: no "capabilities" grants nothing."""
    del box.process["capabilities"]
    assert capability_sets(box.output(*STATUS)) == dict.fromkeys(SETS, 0)


def test_unknown_capability_is_a_warning(box: Box) -> None:
    """P10"""
    box.caps("CAP_KILL", "CAP_FROBNICATE")
    box.args(*STATUS)
    result = box.run()
    assert capability_sets(result.out)["effective"] == mask("CAP_KILL")
    assert "CAP_FROBNICATE" in result.err


@pyoci_only("fails: unable to apply caps")
def test_ungrantable_capability_is_a_warning(box: Box) -> None:
    """P10: this machine's root has no CAP_SYS_RESOURCE."""
    if int(proc_status("self", "CapBnd"), 16) >> 24 & 1:
        pytest.skip("root has CAP_SYS_RESOURCE here")
    box.caps("CAP_KILL", "CAP_SYS_RESOURCE")
    box.args(*STATUS)
    result = box.run()
    assert capability_sets(result.out)["effective"] == mask("CAP_KILL")
    assert "CAP_SYS_RESOURCE" in result.err


# -- session keyring ------------------------------------------------------------------------


def keyring(text: str) -> tuple[str, str]:
    serial, description = text.split(maxsplit=1)
    return serial, description.rsplit(";", 1)[1].strip()


def keyring_outside(box: Box) -> str:
    shown = subprocess.run([box.rootfs / "bin/probe", "keyring"], capture_output=True, text=True, check=True)
    return keyring(shown.stdout)[0]


def test_session_keyring_is_new(box: Box) -> None:
    """SECURITY 13: a keyring of the container's own, named after it."""
    serial, name = keyring(box.output("probe", "keyring"))
    assert serial != keyring_outside(box)
    assert name == f"_ses.{box.id}"


def test_no_new_keyring(box: Box) -> None:
    """--no-new-keyring keeps the caller's."""
    box.args("probe", "keyring")
    assert keyring(box.run("--no-new-keyring").out)[0] == keyring_outside(box)
