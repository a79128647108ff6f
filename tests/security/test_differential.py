"""Generated configs on pyoci, runc and crun: the verdict and what the container sees are the same, or the difference
stands in docs/DIFFERENCES.md with its reason."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import PROJECT, RUNTIME, TIMEOUT, Box, cgroups, pyoci_only, remove_cgroups
from tests.security.conftest import rounds

pytestmark = pyoci_only("it is compared with pyoci")

OTHERS = [name for name in ("runc", "crun") if shutil.which(name)]
# crun takes no host with both versions of cgroups, as some of those are that run this: it sees the first only
HYBRID = Path("/sys/fs/cgroup/unified").exists()
ONE_VERSION = ["unshare", "--mount", "sh", "-c", 'umount /sys/fs/cgroup/unified; exec "$@"', "sh"]
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
    argv = [*command, "--root", state]
    done = subprocess.run(
        [*argv, "run", "--bundle", str(box.bundle), box.id],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip
    subprocess.run([*argv, "delete", "--force", box.id], capture_output=True, timeout=TIMEOUT)
    if command == RUNTIME:
        assert not cgroups(box.id)
    remove_cgroups(box.id)  # the others leave some
    found: dict[str, Any] = {"verdict": "runs" if done.returncode == 0 else "refused"}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(":")
        value = re.sub(r"\s+", " ", value).strip()
        if (name == "dev" and value in ALWAYS) or (
            name == "mount" and value.split()[0] in config["linux"]["maskedPaths"]
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
    """The differences of docs/DIFFERENCES.md: `title` -> {"verdict runc", "mount crun"...}; "always" holds for all."""
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


def unexplained(box: Box, config: dict[str, Any], changes: list[Change]) -> list[str]:
    """The differences that are not in the document for one of the changes."""
    known = documented()
    allowed = set(known.get("always", set()))
    for change in changes:
        allowed |= known.get(title(change), set())
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
