"""features and info: rows F01 to F10."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pyoci import container_features, spec
from pyoci.cli import info, options
from pyoci.host import facts, probe
from pyoci.plan import mountopts

ROOT = Path(__file__).resolve().parents[2]

# features.md and features-linux.md of the runtime-spec: F01, no other properties
TOP = "ociVersionMin ociVersionMax hooks mountOptions linux annotations potentiallyUnsafeConfigAnnotations"
LINUX = "namespaces capabilities cgroup seccomp apparmor selinux intelRdt memoryPolicy mountExtensions netDevices"
PARTS = {
    "cgroup": "v1 v2 systemd systemdUser rdma",
    "seccomp": "enabled actions operators archs knownFlags supportedFlags",
    "apparmor": "enabled",
    "selinux": "enabled",
    "intelRdt": "enabled schemata monitoring",
    "memoryPolicy": "modes flags",
    "mountExtensions": "idmap",
    "netDevices": "enabled",
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """As the command prints it."""
    command = ["/usr/bin/python3", "-I", "-S", ROOT / "pyoci" / "__main__.py", "features"]
    printed: dict[str, Any] = json.loads(subprocess.check_output(command, timeout=30))
    return printed


def test_the_properties(document: dict[str, Any]) -> None:
    """F01"""
    assert set(document) == set(TOP.split())
    assert set(document["linux"]) == set(LINUX.split())
    for part, names in PARTS.items():
        assert set(document["linux"][part]) <= set(names.split()), part
    assert document["ociVersionMin"] == "1.0.0"
    assert document["ociVersionMax"] == spec.VERSION
    assert all(isinstance(value, str) and name for name, value in document["annotations"].items())


@pytest.mark.parametrize("version", ["ociVersionMin", "ociVersionMax"])
def test_both_versions_are_accepted(document: dict[str, Any], version: str) -> None:
    """F01"""
    assert spec.check({**spec.default(), "ociVersion": document[version]}) == []


def test_hooks_and_mount_options(document: dict[str, Any]) -> None:
    """F02: docker 26 writes rro when it stands here."""
    assert set(document["hooks"]) == set(container_features.HOOKS)
    assert {"ro", "rro", "rbind", "tmpcopyup", "rprivate"} <= set(document["mountOptions"])
    for word in document["mountOptions"]:
        mountopts.parse([word] if not word.startswith("X-") else [], "/x")


def test_namespaces_and_capabilities(document: dict[str, Any]) -> None:
    """F03"""
    assert {"pid", "mount", "user"} <= set(document["linux"]["namespaces"])
    assert len(document["linux"]["capabilities"]) == facts.read().last_cap + 1


def test_cgroup_is_that_of_the_machine(document: dict[str, Any]) -> None:
    """F04"""
    mode = facts.read().cgroup_mode
    assert document["linux"]["cgroup"]["v1"] is (mode in ("legacy", "hybrid"))
    assert document["linux"]["cgroup"]["v2"] is (mode in ("unified", "hybrid"))
    if not Path("/run/systemd/system").exists():
        assert document["linux"]["cgroup"]["systemd"] is False


def test_seccomp(document: dict[str, Any]) -> None:
    """F05: what is listed can be used: a profile with each action, operator, flag and architecture is valid."""
    part = document["linux"]["seccomp"]
    assert part["enabled"] is True
    assert set(part["supportedFlags"]) <= set(part["knownFlags"])
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/run/listener",
        "architectures": part["archs"],
        "flags": part["knownFlags"],
        "syscalls": [
            {
                "names": ["getcwd"],
                "action": action,
                "args": [{"index": 0, "value": 1, "op": op} for op in part["operators"]],
            }
            for action in part["actions"]
        ],
    }
    assert spec.check_seccomp(profile) == []


def test_security_modules(document: dict[str, Any]) -> None:
    """F06"""
    for name in ("apparmor", "selinux"):
        assert document["linux"][name]["enabled"] in (False, name in probe.security_modules())


def test_memory_policy(document: dict[str, Any]) -> None:
    """F07"""
    part = document["linux"]["memoryPolicy"]
    assert {"MPOL_DEFAULT", "MPOL_BIND", "MPOL_LOCAL"} <= set(part["modes"])
    assert all(name.startswith("MPOL_F_") for name in part["flags"])


def test_rdt(document: dict[str, Any]) -> None:
    """F08"""
    has = "resctrl" in Path("/proc/filesystems").read_text()
    assert document["linux"]["intelRdt"]["enabled"] in (False, has)


def test_mount_extensions_and_net_devices(document: dict[str, Any]) -> None:
    """F09: true exactly where a plan can be made of it."""
    assert document["linux"]["mountExtensions"]["idmap"] == {"enabled": probe.release() >= (5, 12)}
    understood = container_features.understood({"netDevices": {"eth0": {}}})
    assert document["linux"]["netDevices"] == {"enabled": understood}


def test_annotations(document: dict[str, Any]) -> None:
    """F10"""
    assert set(document["potentiallyUnsafeConfigAnnotations"]) == {
        "org.criu.config",
        "org.systemd.property.",
        "run.oci.",
    }
    assert "pyoci.version" in document["annotations"]


def test_probes_know_what_there_is_not() -> None:
    assert probe.seccomp_flag(1) is True
    assert probe.seccomp_flag(1 << 20) is False
    assert probe.memory_policy(2) is True
    assert probe.memory_policy(1 << 20) is False
    assert probe.text("/no/such/file") == ""


def test_info() -> None:
    found = info.gather(options.parse(["--root", "/no/such/root"], options.GLOBAL))
    assert found["root"] == "/no/such/root"
    assert found["containers"] == 0
    assert found["spec"] == spec.VERSION
    assert info.shown(True) == "yes"
    assert info.shown([]) == info.shown("") == "none"
    assert info.shown(0) == "0"
    assert info.shown(["a", "b"]) == "a b"
