"""Plans of whole configs: the bundles of this project, and those that the engines wrote."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pyoci import json, plan, spec
from pyoci.plan import ops, text
from tests import golden
from tests.unit import plan_reader

ENGINES = golden.BUNDLES.parents[1] / "shared" / "engine-configs"
CONFIGS = sorted(ENGINES.glob("*.config.json"))
PROCESSES = sorted(ENGINES.glob("*.process.json"))
V1 = {c: f"/sys/fs/cgroup/{c}" for c in "cpuset memory devices freezer blkio pids".split()}
V1 |= {"cpu": "/sys/fs/cgroup/cpu,cpuacct", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct"}
V1 |= {"name=systemd": "/sys/fs/cgroup/systemd"}


def facts(name: str, mode: str) -> Any:
    """The machine on which an engine would have called: podman's rootless configs come from a user namespace."""
    userns = "rootless" in name
    if mode == "unified":
        return golden.facts(userns=userns)
    own = dict.fromkeys(V1, "/")
    return golden.facts(
        userns=userns, cgroup_mode="legacy", cgroup_mounts=V1, cgroup_unified="", cgroup_own=own, cgroup_controllers=()
    )


@pytest.mark.parametrize("bundle", golden.bundles(), ids=lambda path: path.name)
def test_golden(bundle: Path) -> None:
    for name, content in golden.plans(bundle).items():
        path = bundle / name
        assert path.exists(), "run `make plans`"
        assert path.read_text() == content, f"{name} of {bundle.name} differs: `make plans`, and review the diff"


@pytest.mark.parametrize("mode", ["unified", "legacy"])
@pytest.mark.parametrize("path", CONFIGS or [None], ids=lambda path: path.name if path else "none")
def test_engine_config(path: Path | None, mode: str) -> None:
    if path is None:
        pytest.skip("no ../shared/engine-configs")
    made = plan.make(golden.config_of(path), facts(path.name, mode), golden.options())
    assert plan_reader.decode(ops.encode(made.ops))[-1].name == "exec"
    assert made.warnings == []
    assert text.render(made).startswith("host:\n")
    assert json.loads(json.dumps(text.as_dict(made)).encode())
    names = [item.name for item in made.ops]
    order = [n for n in names if n in ("propagation", "rootfs", "pivot", "caps", "lookup", "ready", "fifo", "exec")]
    namespaces = 2 if "gather" in names else 1  # one in between, for sources that are to be locked
    assert order == ["propagation"] * namespaces + ["rootfs", "pivot", "caps", "lookup", "ready", "fifo", "exec"]


@pytest.mark.parametrize("path", PROCESSES or [None], ids=lambda path: path.name if path else "none")
def test_engine_process(path: Path | None) -> None:
    """Row P21: exec is the same process ops behind joins."""
    if path is None:
        pytest.skip("no ../shared/engine-configs")
    process = json.loads(path.read_bytes(), path.name)
    assert spec.check_process(process) == []
    engine = path.name.partition("-exec")[0]
    config = golden.config_of(next(c for c in CONFIGS if c.name.startswith(engine)))
    made = plan.make_exec(process, config, golden.target_of(config), facts(path.name, "unified"), golden.options())
    names = [item.name for item in made.ops]
    assert "ready" not in names
    assert "fifo" not in names
    assert "pivot" not in names
    assert names[-1] == "exec"
    assert made.terminal == bool(process.get("terminal"))


def test_budget() -> None:
    """A docker config is planned in about a millisecond.  What is counted is calls, which are the same on any machine:
    4,200 of them; twice as many are a loop where there was none."""
    path = next((c for c in CONFIGS if c.name.startswith("docker")), None)
    if path is None:
        pytest.skip("no ../shared/engine-configs")
    config, facts = golden.config_of(path), golden.facts()
    options = golden.options(seccomp=lambda profile: Empty())
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        ops.encode(plan.make(config, facts, options).ops)
    finally:
        sys.setprofile(None)
    assert 0 < calls < 8000, calls


class Empty:
    code = b""
    flags = 0
    listener = False
    warnings: list[str] = []
