"""Helpers for the tests of plan/: a small config, and plans of changed copies of it."""

from __future__ import annotations

from typing import Any

import pytest

from pyoci import errors, plan
from pyoci.plan import ops
from tests import golden

NAMESPACES = ("pid", "network", "ipc", "uts", "mount")


def config(**changes: Any) -> dict[str, Any]:
    """The least config with all usual namespaces; `linux` and `process` are merged, the rest replaced."""
    linux = {"namespaces": namespaces()} | changes.pop("linux", {})
    process = {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "env": ["PATH=/bin", "HOME=/"], "cwd": "/"}
    process |= changes.pop("process", {})
    return {"ociVersion": "1.2.0", "root": {"path": "/r"}, "linux": linux, "process": process} | changes


def namespaces(*more: str, without: str = "", **paths: str) -> list[dict[str, str]]:
    """The usual namespaces and more, some by path."""
    kinds = [kind for kind in (*NAMESPACES, *more) if kind not in (*without.split(), *paths)]
    return [{"type": kind} for kind in kinds] + [{"type": kind, "path": path} for kind, path in paths.items()]


def user_namespace(*more: str) -> dict[str, Any]:
    """linux.* with a new user namespace, 0 to 65535 mapped."""
    mappings = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    return {"namespaces": namespaces("user", *more), "uidMappings": mappings, "gidMappings": mappings}


def make(given: dict[str, Any] | None = None, /, facts: Any = None, options: Any = None, **changes: Any) -> plan.Plan:
    """The plan of a config, on the golden machine unless facts says otherwise."""
    return plan.make(given or config(**changes), facts or golden.facts(), options or golden.options())


def refused(given: dict[str, Any], where: str, facts: Any = None, options: Any = None) -> errors.InvalidConfig:
    """The error of a config that cannot be planned, which must point to where."""
    with pytest.raises(errors.InvalidConfig) as caught:
        make(given, facts, options)
    assert caught.value.where == where
    return caught.value


def names(made: plan.Plan) -> list[str]:
    return [item.name for item in made.ops]


def find(made: plan.Plan, name: str) -> list[ops.Op]:
    """All ops of that name."""
    return [item for item in made.ops if item.name == name]


def one(made: plan.Plan, name: str) -> ops.Op:
    """The only op of that name."""
    (item,) = find(made, name)
    return item


def on(made: plan.Plan, dest: str) -> list[ops.Op]:
    """The mount, bind, remount and seal ops of a destination, in order."""
    found = [item for item in made.ops if item.name in ("mount", "bind", "remount", "seal")]
    return [item for item in found if item.string("dest") == dest.encode()]


def index(made: plan.Plan, name: str) -> int:
    """Where the first op of that name stands."""
    return names(made).index(name)
