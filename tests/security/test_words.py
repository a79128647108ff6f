"""SECURITY 7, 17 with hypothesis: words that become paths, and configs with something wrong somewhere: what comes out
is below where it belongs, or an InvalidConfig; never another exception.  (JSON and the options: tests/unit.)"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyoci import errors, spec
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
