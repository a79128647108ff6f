"""events: the form of runc, the numbers of the kernel, oom, and the end."""

from __future__ import annotations

import contextlib
import json
import select
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pyoci import container_events
from tests.integration.harness import Box, cgroups, pyoci_only, until, wait_for

RUNC = shutil.which("runc", path="/usr/sbin:/usr/bin:/sbin:/bin")
MIB = 1 << 20


def stats(box: Box) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(box.rt("events", "--stats", box.id).out)
    assert event["type"] == "stats"
    assert event["id"] == box.id
    data: dict[str, Any] = event["data"]
    return data


@pytest.mark.skipif(RUNC is None, reason="runc is not installed")
def test_the_same_container_seen_by_runc(box: Box) -> None:
    """Every field, every value: both read one cgroup.  runc only knows containers of its own, so it makes it."""
    box.linux["resources"].update(
        memory={"limit": 64 * MIB, "swap": 128 * MIB}, pids={"limit": 22}, cpu={"quota": 50000, "period": 100000}
    )
    box.linux["cgroupsPath"] = f"/{box.id}"
    box.script("i=0; while [ $i != 20000 ]; do i=$((i+1)); done; exec sleep 1000")
    box.write()
    assert RUNC
    runc = [RUNC, "--root", str(box.directory / "runc")]
    null = subprocess.DEVNULL
    config = json.loads((box.bundle / "config.json").read_text())
    config["process"]["rlimits"] = []
    (box.bundle / "config.json").write_text(json.dumps(config))
    try:
        subprocess.run(
            [*runc, "run", "--detach", "--bundle", str(box.bundle), box.id],
            check=True,
            stdin=null,
            stdout=null,
            stderr=null,
            timeout=20,
        )
        pid = json.loads(subprocess.check_output([*runc, "state", box.id]))["pid"]
        until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "the script")

        def views() -> tuple[str, str]:
            """Ours and runc's."""
            ours = our_view(box, pid)
            shown = subprocess.run([*runc, "events", "--stats", box.id], capture_output=True, text=True, check=False)
            if shown.returncode:
                pytest.skip(f"runc's own statistics fail on this machine: {shown.stderr.strip()[-200:]}")
            theirs = json.loads(shown.stdout)["data"]
            for group in ("cpu", "memory", "blkio"):
                if "psi" not in theirs[group]:  # before runc 1.2
                    ours[group].pop("psi", None)
            if "max" not in theirs["memory"]["usage"]:  # memory.peak, likewise
                ours["memory"]["usage"].pop("max", None)
            for view in (ours, theirs):  # runc's init brought pages of its file here: mapped when runc looks
                view["memory"]["raw"].pop("file_mapped", None)
            return json.dumps(ours), json.dumps(theirs)

        seen: list[tuple[str, str]] = []

        def same() -> bool:
            seen.append(views())
            return len(set(seen[-1])) == 1

        with contextlib.suppress(AssertionError):  # the kernel may still be freeing what the script used
            until(same, "the same numbers")
        ours, theirs = seen[-1]
        at = next((at for at, both in enumerate(zip(ours, theirs, strict=False)) if len(set(both)) > 1), 0)
        assert ours[at:] == theirs[at:], f"to the byte, order included: {ours[at - 80 : at]}"
    finally:
        subprocess.run([*runc, "delete", "--force", box.id], check=False, timeout=20)


def our_view(box: Box, pid: int) -> dict[str, Any]:
    """What pyoci says of a cgroup and a process that it did not make."""
    from pyoci.host import facts, stats
    from pyoci.plan import cgroup
    from pyoci.plan.options import Options

    plan = cgroup.make({"linux": {"cgroupsPath": f"/{box.id}"}}, facts.read(), Options(box.id, str(box.bundle)))
    assert plan
    return stats.read(plan.record, pid)


def test_stats_are_those_of_the_kernel(box: Box) -> None:
    box.linux["resources"].update(memory={"limit": 64 * MIB}, pids={"limit": 22})
    box.script("head -c 3000000 /dev/zero > /dev/shm/file; exec sleep 100")
    box.up()
    pid = box.pid
    until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "the end of what writes the file")
    until(lambda: stats(box)["memory"]["cache"] >= 3000000, "the file")  # the kernel sums up now and then
    data = stats(box)
    assert data["memory"]["usage"]["limit"] == 64 * MIB
    assert data["memory"]["usage"]["usage"] > 3000000
    assert data["pids"] == {"current": 1, "limit": 22}
    assert data["cpu"]["usage"]["total"] > 0


def test_the_stream_ends_with_the_container(box: Box) -> None:
    box.up()
    stream = box.popen("events", "--interval", "100ms", box.id, stdout=subprocess.PIPE)
    assert stream.stdout
    kinds = [json.loads(stream.stdout.readline())["type"] for _ in range(2)]
    assert kinds == ["stats", "stats"]
    pid = box.pid
    box.kill("KILL")
    wait_for(pid)
    box.delete()  # runc waits for the end of the cgroup
    assert stream.wait(20) == 0


def test_oom(box: Box) -> None:
    box.linux["resources"]["memory"] = {"limit": 16 * MIB, "swap": 16 * MIB}
    box.mount("/data", "tmpfs", "tmpfs")
    box.script("while ! [ -e /go ]; do sleep 0.01; done; tail -c 100000000 /dev/zero; exec sleep 100")
    box.up()
    stream = box.popen("events", "--interval", "100ms", box.id, stdout=subprocess.PIPE)
    assert stream.stdout
    lines = map(json.loads, stream.stdout)
    assert next(lines)["type"] == "stats", "it watches by now"
    (box.rootfs / "go").touch()
    assert next(event for event in lines if event["type"] != "stats") == {"type": "oom", "id": box.id}
    box.delete("--force")
    assert {event["type"] for event in lines} <= {"oom", "stats"}
    assert stream.wait(20) == 0


def test_the_cgroup_goes_while_it_is_watched(box: Box) -> None:
    """Its removal wakes the watcher, and is no OOM."""
    box.linux["resources"]["memory"] = {"limit": 64 * MIB}
    box.up()
    found = sorted(cgroups(box.id))
    memory = [path for path in found if path.split("/")[4] == "memory"]
    record = {"version": 1, "dirs": {"memory": memory[0]}} if memory else {"version": 2, "dirs": {"": found[0]}}
    with container_events.Watch(record) as watch:
        assert watch.fd >= 0
        box.delete("--force")
        poller = select.poll()
        watch.register(poller)
        assert poller.poll(20_000)
        assert watch.gone()
        assert watch.killed() == 0


@pyoci_only("1.1 sees no more than its own veth")
def test_network(box: Box) -> None:
    box.caps("CAP_NET_ADMIN")
    box.up()
    assert stats(box)["network_interfaces"] is None
    if box.exec("ip", "link", "add", "dummy7", "type", "dummy", check=False).code:
        subprocess.run(
            ["nsenter", "-t", str(box.pid), "-n", "ip", "link", "add", "dummy7", "type", "bridge"], check=True
        )
    (interface,) = stats(box)["network_interfaces"]
    assert interface == {
        "Name": "dummy7",
        **dict.fromkeys(("RxBytes", "RxPackets", "RxErrors", "RxDropped"), 0),
        **dict.fromkeys(("TxBytes", "TxPackets", "TxErrors", "TxDropped"), 0),
    }


def test_of_a_container_that_does_not_run(box: Box) -> None:
    assert "does not exist" in box.rt("events", "--stats", box.id, check=False).error
    box.create()
    assert stats(box)["pids"]["current"] == 1
    box.finish()
    assert f"container with id {box.id} is not running" in box.rt("events", box.id, check=False).error
    assert "is not running" in box.rt("events", "--stats", box.id, check=False).error


@pytest.mark.parametrize("interval", ["0", "0s", "-1s", "5", "x", "1y"])
def test_intervals(box: Box, interval: str) -> None:
    box.create()
    assert box.rt("events", f"--interval={interval}", box.id, check=False).code == 1
