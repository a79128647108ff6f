"""The machine is what it is meant to be: without this, everything else in here would test another host."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.integration.harness import RUNTIME, Box


def test_cgroups_are_version_2_alone() -> None:
    kinds = {line.split(" - ")[1].split()[0] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    assert "cgroup2" in kinds
    assert "cgroup" not in kinds


def test_every_controller_is_there() -> None:
    controllers = set(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split())
    assert controllers >= {"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"}


def test_systemd_runs_with_nothing_failed() -> None:
    assert Path("/proc/1/comm").read_text() == "systemd\n"
    failed = subprocess.run(["systemctl", "--failed", "--plain", "--no-legend"], capture_output=True, text=True)
    assert failed.stdout == ""


def test_apparmor_is_on() -> None:
    assert Path("/sys/module/apparmor/parameters/enabled").read_text() == "Y\n"


def test_a_container_runs(box: Box) -> None:
    assert RUNTIME
    assert box.output("echo", "hello") == "hello\n"
