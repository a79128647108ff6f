"""SECURITY 12, 13: what the process is: by its own status, under a caller with everything it should not hand on."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import TIMEOUT, Box, Terminal, libc, pyoci_only, status_field, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
KILL, CHOWN, NET_RAW = 1 << 5, 1 << 0, 1 << 13

CAPS = "+kill,+chown,+net_raw,+sys_ptrace,+dac_override,+setuid"
# a caller who has capabilities to inherit, groups, an open umask, and signals ignored (and blocked: see status)
GENEROUS = ["setpriv", "--inh-caps", CAPS, "--ambient-caps", CAPS, "--groups", "7,8,9", "sh", "-c",
            'trap "" PIPE HUP USR1 XFSZ; umask 0; exec "$@"', "sh"]  # fmt: skip


def status(box: Box, verb: str, *options: str, caller: Sequence[str] = GENEROUS) -> str:
    """/proc/self/status of init, or of an exec, that a generous caller made."""
    argv = ["cat", "/proc/self/status"]
    if verb == "run":
        box.args(*argv)
        box.write()
        command = box.argv("run", "--bundle", str(box.bundle), box.id)
    else:
        box.up()
        command = box.argv("exec", *options, box.id, *argv)
    done = subprocess.run(
        [*caller, *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def sets(text: str) -> dict[str, int]:
    return {name: int(status_field(text, name), 16) for name in SETS}


@pytest.mark.parametrize("verb", ["run", "exec"])
@pytest.mark.parametrize("uid", [0, 1000])
def test_capabilities(box: Box, verb: str, uid: int) -> None:
    """CVE-2022-29162: exactly the config's; nothing inheritable or ambient, whatever the caller has."""
    box.caps("CAP_KILL", "CAP_CHOWN")
    box.process["user"] = {"uid": uid, "gid": uid}
    found = sets(status(box, verb))
    have = KILL | CHOWN
    expected = {"CapInh": 0, "CapPrm": have, "CapEff": have, "CapBnd": have, "CapAmb": 0}
    if uid:  # execve(2) of a user who is not root drops what is not ambient
        expected |= {"CapPrm": 0, "CapEff": 0}
    assert found == expected


def test_capabilities_of_a_user_by_ambient(box: Box) -> None:
    """The counterpart: asked for, they are there."""
    box.caps("CAP_KILL", sets="bounding permitted effective inheritable ambient")
    box.process["user"] = {"uid": 1000, "gid": 1000}
    assert set(sets(status(box, "run")).values()) == {KILL}


@pyoci_only("1.1 adds it to the ambient set, where the inheritable set lets it")
@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("inheritable", [0, NET_RAW])
def test_exec_cap_adds_one(box: Box, uid: int, inheritable: int) -> None:
    """CVE-2022-29162: `exec --cap` adds to three sets, and to the ambient one not even what the config lets inherit."""
    box.caps("CAP_KILL")
    if inheritable:
        box.process["capabilities"] |= {"bounding": ["CAP_KILL", "CAP_NET_RAW"], "inheritable": ["CAP_NET_RAW"]}
    box.process["user"] = {"uid": uid, "gid": uid}
    have = KILL | NET_RAW
    expected = {"CapInh": inheritable, "CapPrm": have, "CapEff": have, "CapBnd": have, "CapAmb": 0}
    if uid:
        expected |= {"CapPrm": 0, "CapEff": 0}
    assert sets(status(box, "exec", "--cap", "CAP_NET_RAW")) == expected


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_groups_umask_signals(box: Box, verb: str) -> None:
    """SECURITY 13: groups exact; umask of the config; no signal ignored or blocked."""
    box.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5, 6], "umask": 0o27}
    text = status(box, verb)
    assert status_field(text, "Groups").split() in (["5", "6"], ["5", "6", "1000"])
    assert status_field(text, "Umask") == "0027"
    for field in ("SigIgn", "SigBlk"):
        assert int(status_field(text, field), 16) == 0, field


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_no_groups_of_the_caller(box: Box, verb: str) -> None:
    """None asked for, none there."""
    assert status_field(status(box, verb), "Groups").split() in ([], ["0"])


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("verb", ["run", "exec"])
def test_no_new_privileges(box: Box, verb: str, wanted: bool) -> None:
    """As the config has it, with and without a profile."""
    box.process["noNewPrivileges"] = wanted
    box.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]}
    text = status(box, verb)
    assert status_field(text, "NoNewPrivs") == str(int(wanted))
    assert status_field(text, "Seccomp") == "2"


SYS_ADD_KEY, SYS_KEYCTL = (248, 250) if platform.machine() == "x86_64" else (217, 219)
KEYCTL_JOIN_SESSION_KEYRING, KEYCTL_UNLINK, KEYCTL_READ = 1, 9, 11
SESSION = -3


@pytest.fixture
def key() -> Iterator[int]:
    """A key of 6 bytes in the session keyring of the caller, for whoever has that keyring."""
    libc.syscall(SYS_KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, None)
    made = libc.syscall(SYS_ADD_KEY, b"user", b"pyoci-test", b"secret", 6, SESSION)
    assert made > 0
    yield made
    libc.syscall(SYS_KEYCTL, KEYCTL_UNLINK, made, SESSION)


@pytest.mark.parametrize("verb", ["run", "exec"])
@pytest.mark.parametrize(("options", "found"), [([], "EACCES"), (["--no-new-keyring"], "ok 6")])
def test_keyring(box: Box, key: int, verb: str, options: list[str], found: str) -> None:
    """The session keyring is the container's own, unless the caller's is asked for: then his keys are there."""
    argv = ["sh", "-c", f"probe keyring; probe syscall {SYS_KEYCTL} {KEYCTL_READ} {key} 0 0"]
    if verb == "run":
        box.args(*argv)
        keyring, read = box.run(*options).out.splitlines()
    else:
        box.up(*options)
        keyring, read = box.exec(*argv).out.splitlines()
    assert read == found
    assert (f"_ses.{box.id}" in keyring) == (not options)


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_terminal_of_the_caller(armed: Box, verb: str) -> None:
    """SECURITY 13: the caller's terminal is stdio, but not the controlling terminal (TIOCSTI)."""
    armed.caps("CAP_SYS_ADMIN", "CAP_SYS_TTY_CONFIG")
    if verb == "run":
        armed.args("attack", "tiocsti")
        armed.write()
        argv = armed.argv("run", "--bundle", str(armed.bundle), armed.id)
    else:
        armed.up()
        argv = armed.argv("exec", armed.id, "attack", "tiocsti")
    with Terminal(argv) as terminal:
        shown = terminal.read("")
        assert terminal.wait() == 0
    assert "tty ENXIO" in shown
    assert "echo stolen" not in shown


def test_parent_death_signal_is_gone(box: Box) -> None:
    """What protects create until it is ready does not end the container with its runtime."""
    box.up()
    assert box.status == "running"
    file = box.bundle / "pid"
    box.rt("exec", "--detach", "--pid-file", str(file), box.id, "sleep", "30", stdout=None, stderr=None)
    assert len(box.rt("exec", box.id, "pidof", "sleep").out.split()) == 2
    os.kill(int(file.read_text()), signal.SIGKILL)
    assert wait_for(int(file.read_text())) == -signal.SIGKILL
