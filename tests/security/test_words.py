"""SECURITY 7, 17 with hypothesis: words that become paths, and configs with something wrong somewhere: what comes out
is below where it belongs, or an InvalidConfig; never another exception.  (JSON and the options: tests/unit.)"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyoci import container_exec, errors, json, spec
from pyoci.cli import exec as cli_exec
from pyoci.plan import cgroup, sysctl
from tests import golden
from tests.integration.harness import default_config
from tests.unit.planning import config, make

WORDS = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(["..", ".", "a", "", "/", "\0", "\n", "net", "kernel", "sys", " "]), max_size=8).map(
        "/".join
    ),
    st.lists(st.sampled_from(["..", "a", "", "net", "kernel", "shmmax", "fs", "mqueue"]), max_size=6).map(".".join),
)


@given(WORDS)
def test_ids(id: str) -> None:
    """One component of a path, of a small alphabet."""
    try:
        spec.check_id(id)
    except errors.InvalidConfig:
        return
    assert id.isascii()
    assert id not in (".", "..")
    assert not set(id) & set("/\0\n \\$`;&|<>*?")
    assert 0 < len(id) <= 1024


@given(WORDS)
def test_sysctl_keys(key: str) -> None:
    """A file of the namespaces that the container has of its own, below /proc/sys."""
    try:
        made = make(config(linux={"sysctl": {key: "1"}}))
    except errors.InvalidConfig:
        return
    (path,) = [op.string("path").decode() for op in made.ops if op.name == "sysctl"]
    assert ".." not in path.split("/")
    assert not path.startswith("/")
    assert "\0" not in path
    assert sysctl.owner(path) in ("ipc", "network", "uts")


@pytest.mark.parametrize("v2", [True, False])
@given(path=WORDS)
def test_cgroup_paths(path: str, v2: bool) -> None:
    """Below the mount point of its hierarchy."""
    given_config = config(linux={"cgroupsPath": path})
    facts = golden.facts()
    if not v2:
        facts.cgroup_mode, facts.cgroup_unified = "legacy", ""
        facts.cgroup_mounts = {
            name: f"/sys/fs/cgroup/{name}" for name in ("cpu", "memory", "pids", "devices", "freezer")
        }
        facts.cgroup_own = dict.fromkeys(facts.cgroup_mounts, "/")
        facts.cgroup_roots = dict.fromkeys(facts.cgroup_mounts, "/")
    try:
        spec.validate(given_config)
        made = cgroup.make(given_config, facts, golden.options())
    except errors.Error:
        return
    assert made
    for directory in made.record["dirs"].values():
        assert directory.startswith("/sys/fs/cgroup/")
        assert ".." not in directory.split("/")
        assert "\n" not in directory
        assert "\0" not in directory


CGROUP_WORDS = st.one_of(
    st.tuples(st.sampled_from(["", "cpu", "memory", "cpu,memory", "cpu,", "nope", "a:b"]), WORDS).map(":".join), WORDS
)


@pytest.mark.parametrize("names", [("cpu", "memory"), ("",)])
@given(given_words=st.lists(CGROUP_WORDS, min_size=1, max_size=3))
def test_exec_cgroup(names: tuple[str, ...], given_words: list[str]) -> None:
    """exec --cgroup: below the container's cgroup of that controller; the others are the container's own."""
    record = {"dirs": {name: f"/sys/fs/cgroup/{name}/box" for name in names}}
    try:
        wanted = cli_exec.cgroups(given_words)
        below = container_exec.cgroup_below(record, wanted)
    except errors.UsageError:
        return
    assert wanted
    for name, directory in below["dirs"].items():
        own = record["dirs"][name]
        assert (directory + "/").startswith(own + "/")
        assert ".." not in directory.split("/")
        assert directory.isprintable()
        assert directory == own or name in wanted or "" in wanted


# What becomes a path, an option, a name, a line or a field of a file: JSON with the string at @.
WORDS_OF_A_CONFIG = """
/ociVersion "1.0.0@"
/hostname "@"
/domainname "@"
/root/path "@"
/process/cwd "/@"
/process/env ["@=x"]
/process/apparmorProfile "@"
/process/selinuxLabel "@"
/process/execCPUAffinity {"initial": "1@"}
/mounts [{"destination": "/@"}]
/mounts [{"destination": "/x", "type": "@"}]
/mounts [{"destination": "/x", "type": "tmpfs", "source": "@"}]
/mounts [{"destination": "/x", "type": "tmpfs", "options": ["ro", "@"]}]
/mounts [{"destination": "/x", "type": "tmpfs", "options": ["size=1k@"]}]
/hooks {"prestart": [{"path": "/@"}]}
/hooks {"createContainer": [{"path": "/x", "env": ["@=x"]}]}
/linux/namespaces [{"type": "mount"}, {"type": "uts"}, {"type": "pid", "path": "/@"}]
/linux/cgroupsPath "/@"
/linux/sysctl {"net.@": "1"}
/linux/sysctl {"kernel.msgmax": "1@"}
/linux/devices [{"type": "c", "major": 1, "minor": 3, "path": "/@"}]
/linux/netDevices {"@": {}}
/linux/netDevices {"eth0": {"name": "@"}}
/linux/maskedPaths ["/@"]
/linux/readonlyPaths ["/@"]
/linux/mountLabel "@"
/linux/rootfsPropagation "@"
/linux/resources {"cpu": {"cpus": "1@"}}
/linux/resources {"cpu": {"mems": "1@"}}
/linux/resources {"hugepageLimits": [{"pageSize": "2MB@", "limit": 1}]}
/linux/resources {"rdma": {"@": {"hcaHandles": 1}}}
/linux/resources {"network": {"priorities": [{"name": "@", "priority": 1}]}}
/linux/resources {"unified": {"memory.@": "1"}}
/linux/resources {"devices": [{"allow": true, "access": "r@"}]}
/linux/intelRdt {"closID": "@"}
/linux/intelRdt {"schemata": ["@"]}
/linux/memoryPolicy {"mode": "MPOL_BIND", "nodes": "1@"}
/linux/seccomp {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/@"}
"""
# and texts that may have lines, as the kernel gives them to the program, or a file takes several
TEXTS_OF_A_CONFIG = """
/process/args ["@"]
/process/env ["A=@"]
/process/capabilities {"bounding": ["@"]}
/annotations {"a": "@"}
/annotations {"@": "a"}
/hooks {"poststop": [{"path": "/x", "args": ["@"]}]}
/hooks {"poststop": [{"path": "/x", "env": ["A=@"]}]}
/linux/resources {"unified": {"io.max": "@"}}
/linux/intelRdt {"l3CacheSchema": "@"}
/linux/seccomp {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x", "listenerMetadata": "@"}
"""


def accepted(line: str, word: str) -> bool:
    """Whether a config is valid with this word in it."""
    place, _, text = line.partition(" ")
    changed = default_config("box")
    changed["linux"]["namespaces"] += [{"type": "network"}, {"type": "uts"}, {"type": "ipc"}]
    changed["linux"]["namespaces"] = [*{entry["type"]: entry for entry in changed["linux"]["namespaces"]}.values()]
    at: Any = changed
    *way, last = place.split("/")[1:]
    for name in way:
        at = at[name]
    at[last] = json.loads(text.replace("@", json.dumps(word)[1:-1]).encode())
    return not spec.check(changed)


@pytest.mark.parametrize("line", [*WORDS_OF_A_CONFIG.split("\n")[1:-1], *TEXTS_OF_A_CONFIG.split("\n")[1:-1]])
def test_no_line_is_smuggled(line: str) -> None:
    """NUL ends a string of the kernel's, a newline begins another line: refused wherever that would count."""
    assert any(accepted(line, word) for word in ("", "x", "private"))
    for word in ("\0", "a\0b", "\0a", "a\0"):
        assert not accepted(line, word), word
    for word in ("a\nb", "\na", "a\n"):
        assert accepted(line, word) == (line in TEXTS_OF_A_CONFIG), word


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in a config."""
    found = [at] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*at, key))
    return found


PLACES = places(default_config("box"))


@settings(max_examples=400)
@given(st.lists(st.tuples(st.sampled_from(PLACES), ANYTHING), min_size=1, max_size=3))
def test_configs(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    """Whatever stands wherever: accepted and planned, or InvalidConfig."""
    given_config = copy.deepcopy(default_config("box"))
    given_config["root"]["path"] = "/r"
    for way, value in changes:
        at: Any = given_config
        try:
            for key in way[:-1]:
                at = at[key]
            at[way[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took it away
    try:
        spec.validate(given_config)
        make(given_config)
    except errors.InvalidConfig:
        return
