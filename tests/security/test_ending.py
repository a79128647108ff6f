"""SECURITY 19, 22: a container that does not want to end: `delete --force` is always enough."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from tests.integration.harness import Box, cgroups, pyoci_only, until, wait_for

pytestmark = pyoci_only("1.1 waits for ever")


@pytest.mark.skipif(not os.path.isdir("/sys/fs/cgroup/freezer"), reason="needs the freezer of cgroup v1")
@pytest.mark.parametrize("who", ["init", "another", "each other"])
def test_a_container_that_freezes_itself(box: Box, who: str) -> None:
    """SECURITY 19, 22: on v1 what is frozen does not die; `delete --force` is enough all the same."""
    box.caps("CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_KILL")
    box.namespace("cgroup")
    box.mount("/sys/fs/cgroup", "cgroup", "cgroup", "rw")
    freeze = {
        "init": "echo $$ > x/y/cgroup.procs; echo done; echo FROZEN > x/freezer.state",
        "another": "sleep 100 & echo $! > x/y/cgroup.procs; echo FROZEN > x/y/freezer.state; echo done",
        "each other": "for d in x x/y; do (while :; do echo FROZEN > $d/freezer.state; done) & "
        "echo $! > x/y/cgroup.procs; done; echo done",
    }
    box.script(f"cd /sys/fs/cgroup/freezer; mkdir x x/y; {freeze[who]}; sleep 1000")
    box.up()
    until(lambda: "done" in box.logs(), "the script", 20)
    if who == "init":
        until(lambda: "FREEZING" in frozen(box) or "FROZEN" in frozen(box), "init frozen", 20)
    pid = box.pid
    box.popen("delete", "--force", box.id)
    try:
        assert wait_for(pid) == -9
    finally:  # of a runtime that cannot do it
        for directory, *_ in os.walk(f"/sys/fs/cgroup/freezer/{box.id}"):
            with contextlib.suppress(OSError):  # of one that can: it is being removed meanwhile
                Path(directory, "freezer.state").write_text("THAWED")
    until(lambda: not box.entries(), "end of delete", 20)
    assert not cgroups(box.id)


def frozen(box: Box) -> str:
    return Path(f"/sys/fs/cgroup/freezer/{box.id}/x/freezer.state").read_text()
