"""Generated configs on pyoci, runc and crun: the verdict and what the container sees are the same, or the difference
stands in docs/DIFFERENCES.md with its reason."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.harness import PROJECT, RUNTIME, TIMEOUT, Box, cgroups, pyoci_only, remove_cgroups
from tests.security.conftest import rounds

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pyoci_only("it is compared with pyoci")

OTHERS = [name for name in ("runc", "crun") if shutil.which(name)]
# crun takes no host with both versions of cgroups, as some of those are that run this: it sees the first only
HYBRID = Path("/sys/fs/cgroup/unified").exists()
ONE_VERSION = ["unshare", "--mount", "sh", "-c", 'umount /sys/fs/cgroup/unified; exec "$@"', "sh"]
CALLER: list[str] = []  # what calls the runtimes
DOCUMENT = PROJECT / "docs/DIFFERENCES.md"

# What the container tells of itself: one "name: value" a line.
LOOK = r"""
echo ids: $(id -u) $(id -g) $(id -G)
grep -E '^(Cap|SigBlk|NoNewPrivs|Seccomp:|Umask|Groups)' /proc/self/status
# without signals 32 and 33, which belong to the C library: a caller started by posix_spawn(3) ignores one of them,
# the others pass that on and pyoci does not
ignored=$(grep ^SigIgn /proc/self/status | cut -f2)
echo ignored: $(printf %x $(( 0x$ignored & ~0x180000000 )))
echo cwd: $(pwd)
echo hostname: $(hostname)
echo oom: $(cat /proc/self/oom_score_adj)
echo coredump: $(cat /proc/self/coredump_filter)
echo fds: $(probe fds | cut -d' ' -f1)
for r in n c f s u; do echo limit-$r: $(ulimit -S$r) $(ulimit -H$r); done
env | sort | sed 's/^/env: /'
cut -d' ' -f5,6 /proc/self/mountinfo | sort | sed 's/^/mount: /'
ls -1 /dev | sed 's/^/dev: /'
for s in kernel/shmmax kernel/msgmax net/ipv4/ip_forward; do echo sysctl-$s: $(cat /proc/sys/$s); done
"""

ALWAYS = ("core", "console")
Change = tuple[str, Any]
# (JSON pointer, value); "+" at the end appends
CHANGES: list[Change] = [
    ("/process/user", {"uid": 1000, "gid": 1000}),
    ("/process/user", {"uid": 1000, "gid": 1000, "additionalGids": [7, 8]}),
    ("/process/user", {"uid": 0, "gid": 0, "umask": 63}),
    ("/process/user", {"uid": 4294967295, "gid": 0}),
    ("/process/cwd", "/etc"),
    ("/process/cwd", "/made/here"),
    ("/process/cwd", "relative"),
    ("/process/cwd", "/etc/passwd"),
    ("/process/env/+", "NEW=value with blanks"),
    ("/process/env/+", "NOVALUE"),
    ("/process/env/+", "=empty"),
    ("/process/env", []),
    ("/process/noNewPrivileges", False),
    ("/process/oomScoreAdj", 123),
    ("/process/oomScoreAdj", 100000),
    ("/process/capabilities", {}),
    ("/process/capabilities/bounding", ["CAP_KILL"]),
    ("/process/capabilities/effective", []),
    ("/process/capabilities/inheritable", ["CAP_KILL"]),
    ("/process/capabilities/ambient", ["CAP_KILL"]),
    ("/process/capabilities/permitted/+", "CAP_UNKNOWN"),
    ("/process/rlimits/+", {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}),
    ("/process/rlimits/+", {"type": "RLIMIT_NOFILE", "soft": 5, "hard": 6}),
    ("/process/rlimits/+", {"type": "RLIMIT_NOPE", "soft": 5, "hard": 6}),
    ("/process/rlimits/+", {"type": "RLIMIT_CORE", "soft": 9, "hard": 6}),
    ("/hostname", "other"),
    ("/hostname", "x" * 65),
    ("/domainname", "other"),
    ("/root/readonly", True),
    ("/mounts/+", {"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "nosuid", "ro"]}),
    ("/mounts/+", {"destination": "/t", "type": "tmpfs", "source": "t", "options": ["noexec", "nodev", "mode=700"]}),
    ("/mounts/+", {"destination": "relative", "type": "tmpfs", "source": "tmpfs"}),
    ("/mounts/+", {"destination": "/b", "type": "bind", "source": "/etc", "options": ["rbind", "ro"]}),
    ("/mounts/+", {"destination": "/b", "type": "none", "source": "/etc", "options": ["bind", "nosuid", "noexec"]}),
    ("/mounts/+", {"destination": "/b", "type": "bind", "source": "/nowhere", "options": ["bind"]}),
    ("/mounts/+", {"destination": "/b", "type": "tmpfs", "source": "tmpfs", "options": ["nonsense"]}),
    ("/mounts/+", {"destination": "/b", "type": "nonsense", "source": "x"}),
    ("/mounts/+", {"destination": "/proc/self", "type": "bind", "source": "/etc", "options": ["bind"]}),
    ("/linux/maskedPaths/+", "/etc/passwd"),
    ("/linux/maskedPaths/+", "/etc"),
    ("/linux/readonlyPaths/+", "/etc"),
    ("/linux/readonlyPaths/+", "/nowhere"),
    ("/linux/sysctl", {"kernel.shmmax": "4096"}),
    ("/linux/sysctl", {"net.ipv4.ip_forward": "1"}),
    ("/linux/sysctl", {"vm.swappiness": "1"}),
    ("/linux/sysctl", {"kernel.nonsense": "1"}),
    ("/linux/devices", [{"path": "/dev/fresh", "type": "c", "major": 1, "minor": 5, "fileMode": 438, "uid": 0}]),
    ("/linux/devices", [{"path": "/dev/pipe", "type": "p", "fileMode": 438}]),
    ("/linux/devices", [{"path": "/dev/bad", "type": "z", "major": 1, "minor": 5}]),
    ("/linux/rootfsPropagation", "private"),
    ("/linux/rootfsPropagation", "nonsense"),
    ("/linux/namespaces/+", {"type": "cgroup"}),
    ("/linux/namespaces/+", {"type": "nonsense"}),
    ("/linux/namespaces/+", {"type": "pid"}),
    ("/linux/seccomp", {"defaultAction": "SCMP_ACT_ALLOW"}),
    ("/linux/seccomp", {"defaultAction": "SCMP_ACT_NONSENSE"}),
    ("/process/args", []),
    ("/process/args", ["/nowhere"]),
    ("/process/args", ["/etc/notexec"]),
    ("/ociVersion", "2.0.0"),
    ("/annotations", {"a": "b"}),
    ("/annotations", {"a": 1}),
    ("/unknown", {"a": 1}),
    ("/linux/resources/pids", {"limit": 50}),
    ("/linux/resources/memory", {"limit": -5}),
]  # fmt: skip


def apply(config: dict[str, Any], change: Change) -> None:
    path, value = change
    *way, last = path.split("/")[1:]
    at: Any = config
    for word in way:
        at = at[int(word)] if isinstance(at, list) else at.setdefault(word, {})
    if last == "+":
        at.append(value)
    else:
        at[last] = value


def title(change: Change) -> str:
    """How docs/DIFFERENCES.md calls it."""
    return f"{change[0]} {json.dumps(change[1])}"[:110]


def tell(box: Box, command: list[str], config: dict[str, Any]) -> dict[str, Any]:
    """{"verdict": 0 or 1, and what the container told}."""
    (box.bundle / "config.json").write_text(json.dumps(config))
    state = str(box.directory / f"state-{Path(command[-1]).name}")
    argv = [*CALLER, *command, "--root", state]
    # stdin: no /dev/null, since crun gives the host's to the user of a container
    done = subprocess.run(
        [*argv, "run", "--bundle", str(box.bundle), box.id], input="", capture_output=True, text=True, timeout=TIMEOUT
    )
    subprocess.run([*argv, "delete", "--force", box.id], capture_output=True, timeout=TIMEOUT)
    if command == RUNTIME:
        assert not cgroups(box.id)
    remove_cgroups(box.id)  # the others leave some
    found: dict[str, Any] = {"verdict": "runs" if "ids:" in done.stdout else "refused"}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(":")
        value = re.sub(r"\s+", " ", value).strip()
        if (name == "dev" and value in ALWAYS) or (
            name == "mount" and value.split()[0] in map(os.path.normpath, config["linux"]["maskedPaths"])
        ):
            continue  # docs/DIFFERENCES.md: "Always"
        if name in ("env", "mount", "dev"):
            found.setdefault(name, []).append(value)
        else:
            found[name] = value
    return found


def command(name: str) -> list[str]:
    return [*(ONE_VERSION if name == "crun" and HYBRID else []), shutil.which(name) or name]


def differences(box: Box, config: dict[str, Any]) -> dict[str, list[str]]:
    """The names of what another runtime shows differently -> the runtimes."""
    ours = tell(box, RUNTIME, config)
    found: dict[str, list[str]] = {}
    for name in OTHERS:
        theirs = tell(box, command(name), config)
        for key in sorted(ours.keys() | theirs.keys()):
            if ours["verdict"] != theirs["verdict"] and key != "verdict":
                continue
            if ours.get(key) != theirs.get(key):
                found.setdefault(key, []).append(name)
    return found


def documented() -> dict[str, set[str]]:
    """The differences of docs/DIFFERENCES.md: `title` -> {"verdict runc", "mount crun"...}; "always" holds for all, and
    "~ pattern" for every change that it is found in."""
    found: dict[str, set[str]] = {}
    for line in DOCUMENT.read_text().splitlines():
        match = re.match(r"\| `(.+?)` \| ([\w -]+) \| ([\w, ]+) \| .+ \|$", line)
        if match:
            found.setdefault(match[1], set()).update(f"{match[2]} {name.strip()}" for name in match[3].split(","))
    return found


@pytest.fixture
def base(box: Box) -> dict[str, Any]:
    box.script(LOOK)
    box.process["env"].append("PATH=/bin")
    box.linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    return box.config


def cases() -> list[Any]:
    """In `make test` what is known to differ, and some of the others."""
    known = documented()
    often = [title(change) in known or index % 8 == 0 for index, change in enumerate(CHANGES)]
    return [
        pytest.param(change, id=title(change)[:60], marks=() if now else pytest.mark.long)
        for change, now in zip(CHANGES, often, strict=True)
    ]


@pytest.mark.skipif(not OTHERS, reason="neither runc nor crun is here")
@pytest.mark.parametrize("change", cases())
def test_one_change(box: Box, base: dict[str, Any], change: Change) -> None:
    """Each change alone."""
    config = copy.deepcopy(base)
    apply(config, change)
    assert not unexplained(box, config, [change])


# a umask, limits, values of /proc/self and ignored signals that are not the usual
ANOTHER = """umask 037; trap "" HUP USR1; echo 77 > /proc/self/oom_score_adj; echo 7 > /proc/self/coredump_filter
ulimit -Sn 100; ulimit -Hn 200; ulimit -Sc 7; ulimit -Hc 9; ulimit -Ss 4096; ulimit -Hs 8192; ulimit -f 1000000
exec "$@" """


@pytest.mark.skipif(not OTHERS, reason="neither runc nor crun is here")
def test_another_caller(box: Box, base: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the config does not name is the caller's, or nobody's: with all of them the same, or documented."""
    monkeypatch.setattr(f"{__name__}.CALLER", ["sh", "-c", ANOTHER, "sh"])
    del base["process"]["rlimits"]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGTTOU])
    try:
        assert not unexplained(box, base, [("caller", "another")])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@pytest.mark.long
@pytest.mark.skipif(not OTHERS, reason="neither runc nor crun is here")
def test_several_changes(box: Box, base: dict[str, Any]) -> None:
    """Three at a time, chosen anew but always the same ones."""
    chance = random.Random(int(os.environ.get("PYOCI_SEED", "1")))
    found: list[str] = []
    for _ in range(rounds(0, 400)):
        changes = chance.sample(CHANGES, 3)
        config = copy.deepcopy(base)
        try:
            for change in changes:
                apply(config, change)
        except (KeyError, AttributeError, TypeError):
            continue  # one took the place of the other
        found += unexplained(box, config, changes)
    assert not found, "\n".join(found)


# -- values made up -------------------------------------------------------------------------

CAPS = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETUID", "CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_BPF"]
IDS = [0, 1, 5, 1000, 65534, 4294967294]
FLAGS = ["ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "noatime", "relatime", "strictatime",
         "nodiratime", "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable"]  # fmt: skip
PLACES = [
    "/etc",
    "/etc/passwd",
    "/nowhere",
    "/tmp",
    "/proc/kcore",
    "/proc/sys/kernel",
    "/sys",
    "/dev/null",
    "/bin/../etc",
]
SYSCTLS = ["kernel.msgmnb", "kernel.sem", "kernel.shm_rmid_forced", "net.ipv4.ip_default_ttl", "net.core.somaxconn",
           "fs.mqueue.msg_max", "kernel.domainname", "kernel.pid_max", "net.ipv4.conf.lo.forwarding"]  # fmt: skip


def some(chance: random.Random, values: list[Any], most: int = 3) -> list[Any]:
    return chance.sample(values, chance.randint(0, min(most, len(values))))


def generated(chance: random.Random) -> Change:
    """A change that nobody thought of."""
    pick, number = chance.choice, chance.randint
    made: list[Callable[[], Change]] = [
        lambda: ("/process/user", {"uid": pick(IDS), "gid": pick(IDS), "additionalGids": some(chance, IDS)}),
        lambda: ("/process/user", {"uid": pick(IDS), "gid": 0, "umask": number(0, 511)}),
        lambda: (
            "/process/capabilities",
            {name: some(chance, CAPS, 7) for name in ("bounding", "effective", "permitted", "inheritable", "ambient")},
        ),
        lambda: (
            "/process/rlimits",
            [
                {"type": f"RLIMIT_{name}", "soft": (low := number(64, 1 << 20)), "hard": low + number(0, 2)}
                for name in some(chance, ["NOFILE", "CORE", "FSIZE", "STACK", "NPROC", "MEMLOCK", "AS"])
            ],
        ),
        lambda: ("/process/env", some(chance, ["A=b", "A=c", "HOME=/x", "PATH=/bin:/usr", "E=", "X Y=z", "é=ü"], 7)),
        lambda: ("/process/cwd", pick(["/", "/etc", "/tmp/a/b", "/proc", "/root/../etc", "/bin/sh/x", "//tmp/"])),
        lambda: ("/process/oomScoreAdj", pick([-1000, -1, 0, 1000, 1001])),
        lambda: ("/process/noNewPrivileges", pick([True, False])),
        lambda: ("/hostname", pick(["a", "a.b", "UPPER", "-x", "ü", "", "x" * 64])),
        lambda: ("/root/readonly", pick([True, False])),
        lambda: (
            "/mounts/+",
            {"destination": pick(["/t", "/tmp/x/y", "/etc", "/t/../u"]), "type": "tmpfs", "source": "tmpfs",
             "options": some(chance, FLAGS) + some(chance, ["size=64k", "mode=1777", "mode=0", "nr_inodes=9"])},
        ),
        lambda: (
            "/mounts/+",
            {"destination": pick(["/b", "/b/c", "/etc/file"]), "type": pick(["bind", "none", ""]),
             "source": pick(["/etc", "/etc/passwd"]), "options": [pick(["bind", "rbind"]), *some(chance, FLAGS)]},
        ),
        lambda: ("/linux/maskedPaths", some(chance, PLACES)),
        lambda: ("/linux/readonlyPaths", some(chance, PLACES)),
        lambda: ("/linux/sysctl", {name: pick(["1", "100", "", "x"]) for name in some(chance, SYSCTLS, 2)}),
        lambda: (
            "/linux/devices",
            [{"path": pick(["/dev/x", "/dev/sub/x"]), "type": pick("cbup"), "major": number(1, 10),
              "minor": number(0, 9), "fileMode": number(0, 511), "uid": pick(IDS), "gid": pick(IDS)}],
        ),
        lambda: ("/linux/rootfsPropagation", pick(["private", "slave", "rslave", "shared", "rshared", "unbindable"])),
        lambda: (
            "/linux/namespaces",
            [{"type": kind} for kind in ("mount", *some(chance, ["pid", "ipc", "uts", "network", "cgroup"], 5))],
        ),
        lambda: ("/linux/personality", {"domain": pick(["LINUX", "LINUX32", "linux"])}),
        lambda: ("/linux/resources/pids", {"limit": pick([-1, 0, 1, 64])}),
    ]  # fmt: skip
    return pick(made)()


@pytest.mark.long
@pytest.mark.skipif(not OTHERS, reason="neither runc nor crun is here")
def test_generated_configs(box: Box, base: dict[str, Any]) -> None:
    """Up to three changes with values made up; PYOCI_SEED= gives others."""
    chance = random.Random(int(os.environ.get("PYOCI_SEED", "1")))
    found: list[str] = []
    for _ in range(rounds(0, 300)):
        changes = [generated(chance) for _ in range(chance.randint(1, 3))]
        config = copy.deepcopy(base)
        for change in changes:
            apply(config, change)
        found += unexplained(box, config, changes)
    assert not found, "\n".join(found)


def unexplained(box: Box, config: dict[str, Any], changes: list[Change]) -> list[str]:
    """The differences that are not in the document for one of the changes."""
    known = documented()
    allowed = set(known.get("always", set()))
    for change in changes:
        allowed |= known.get(title(change), set())
        whole = f"{change[0]} {json.dumps(change[1])}"
        for pattern in known:
            if pattern.startswith("~ ") and re.search(pattern[2:], whole):
                allowed |= known[pattern]
    titles = " + ".join(map(title, changes))
    return [
        f"{titles}: {key} differs from {name}: {explain(box, config, key)}"
        for key, names in differences(box, config).items()
        for name in names
        if f"{key} {name}" not in allowed
    ]


def explain(box: Box, config: dict[str, Any], key: str) -> str:
    commands = [RUNTIME, *map(command, OTHERS)]
    return "; ".join(f"{Path(argv[-1]).name}: {tell(box, argv, config).get(key)}" for argv in commands)
