"""Docker's swarm on one node: services, their updates, nodes that are drained, secrets."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from tests.engines.docker import Docker
from tests.engines.lab import IMAGE, Skip, check, eventually, expect, fetch, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOP = "trap 'exit 0' TERM; echo started; while :; do sleep 0.1; done"


class Swarm(Docker):
    """A swarm of one manager."""

    name = "swarm"
    options = ()

    def begin(self) -> None:
        super().begin()
        self(
            "swarm", "init", "--advertise-addr", "192.0.2.10", "--task-history-limit", "10"
        )  # failed tasks are looked for
        self.node = self.out("node", "ls", "-q")

    @contextlib.contextmanager
    def service(self, *options: str, script: str = LOOP, wait: int = 1) -> Iterator[str]:
        """A service, once wait tasks run; removed at the end."""
        self.number += 1
        name = f"service{self.number}"
        fixed = ["--detach", "--name", name, "--no-resolve-image", "--stop-grace-period", "1s", "--restart-delay", "0s"]
        self("service", "create", *fixed, *options, IMAGE, "sh", "-c", script)
        try:
            if wait:
                self.running(name, wait)
            yield name
        finally:
            self("service", "rm", name)
            eventually(lambda: not self.containers(name), "the end of its containers")

    def containers(self, name: str) -> list[str]:
        """The ids of a service's running containers."""
        label = f"label=com.docker.swarm.service.name={name}"
        return self.out("ps", "-q", "--no-trunc", "--filter", label).split()

    def running(self, name: str, count: int, timeout: float = 60) -> list[str]:
        """The containers, as soon as there are so many."""
        return list(
            eventually(lambda: len(found := self.containers(name)) == count and found, f"{count} tasks", timeout)
        )

    def update(self, name: str, *options: str) -> None:
        self("service", "update", "--detach", "--no-resolve-image", "--update-monitor", "100ms", *options, name)

    def exec(self, name: str, script: str) -> str:
        """What a script prints in the first container of a service."""
        return self.out("exec", self.running(name, 1)[0], "sh", "-c", script)

    def state(self, name: str) -> str:
        """The state of the last update."""
        return self.out("service", "inspect", "--format", "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}", name)


@check("swarm", quick=True)
def node_ready(engine: Swarm) -> None:
    expect(
        "Ready Active Leader", engine.out("node", "ls", "--format", "{{.Status}} {{.Availability}} {{.ManagerStatus}}")
    )


@check("swarm", quick=True)
def replicas(engine: Swarm) -> None:
    with engine.service("--replicas", "3", wait=3) as name:
        words = ["service", "ls", "--format", "{{.Replicas}}", "--filter", f"name={name}"]
        eventually(lambda: engine.out(*words) == "3/3", "3/3")


@check("swarm")
def replicas_run_on_the_runtime(engine: Swarm) -> None:
    with engine.service() as name:
        assert engine.field(engine.running(name, 1)[0], "HostConfig.Runtime") == "tested"


@check("swarm", quick=True)
def scale(engine: Swarm) -> None:
    with engine.service() as name:
        engine("service", "scale", "--detach", f"{name}=4")
        engine.running(name, 4)
        engine("service", "scale", "--detach", f"{name}=1")
        engine.running(name, 1)


@check("swarm", quick=True)
def rolling_update(engine: Swarm) -> None:
    """One task after the other gets the new environment."""
    with engine.service("--replicas", "2", "--env", "A=old", wait=2) as name:
        before = set(engine.containers(name))
        engine.update(name, "--env-add", "A=new", "--update-parallelism", "1", "--update-delay", "100ms")
        eventually(lambda: engine.state(name) == "completed", "the end of the update")
        after = engine.running(name, 2)
        assert not before & set(after)
        assert {engine.out("exec", one, "sh", "-c", "echo $A") for one in after} == {"new"}


@check("swarm")
def update_start_first(engine: Swarm) -> None:
    with engine.service() as name:
        before = engine.containers(name)
        engine.update(name, "--env-add", "A=b", "--update-order", "start-first")
        eventually(lambda: engine.state(name) == "completed", "the end of the update")
        assert engine.running(name, 1) != before


@check("swarm")
def rollback(engine: Swarm) -> None:
    with engine.service("--env", "A=old") as name:
        engine.update(name, "--env-add", "A=new")
        eventually(lambda: engine.state(name) == "completed", "the end of the update")
        engine("service", "rollback", "--detach", name)
        eventually(lambda: engine.state(name) == "rollback_completed", "the way back")
        assert engine.exec(name, "echo $A") == "old"


@check("swarm")
def update_failing_rolls_back(engine: Swarm) -> None:
    """A new version that cannot be started: the error comes from the runtime, to dockerd's log (the task may be
    forgotten at once)."""
    log = engine.work / "dockerd.log"
    before = log.stat().st_size
    with engine.service("--env", "A=old", "--restart-max-attempts", "1") as name:
        engine.update(
            name, "--args", "nosuch", "--update-failure-action", "rollback", "--update-max-failure-ratio", "0"
        )
        eventually(lambda: engine.state(name) == "rollback_completed", "the way back")
        eventually(lambda: "started" in engine("logs", engine.running(name, 1)[0]).out, "its log")
        said = log.read_bytes()[before:].decode(errors="replace")
        assert "fatal task error" in said, said
        assert "not found in $PATH" in said, said


@check("swarm")
def update_failing_pauses(engine: Swarm) -> None:
    with engine.service("--restart-max-attempts", "1") as name:
        engine.update(name, "--args", "nosuch", "--update-failure-action", "pause", "--update-max-failure-ratio", "0")
        eventually(lambda: engine.state(name) == "paused", "the pause")


@check("swarm")
def force_update(engine: Swarm) -> None:
    with engine.service() as name:
        before = engine.containers(name)
        engine.update(name, "--force")
        eventually(
            lambda: engine.containers(name) not in ([], before) and len(engine.containers(name)) == 1, "a new one", 60
        )


@check("swarm", quick=True)
def drain(engine: Swarm) -> None:
    """A drained node gives its tasks away; active again it gets them."""
    with engine.service("--replicas", "2", wait=2) as name:
        engine("node", "update", "--availability", "drain", engine.node)
        try:
            eventually(lambda: not engine.containers(name), "the end of the tasks")
        finally:
            engine("node", "update", "--availability", "active", engine.node)
        engine.running(name, 2)


@check("swarm")
def node_pause(engine: Swarm) -> None:
    """A paused node keeps its tasks and gets no new ones."""
    with engine.service() as name:
        engine("node", "update", "--availability", "pause", engine.node)
        try:
            engine("service", "scale", "--detach", f"{name}=2")
            eventually(
                lambda: "no suitable node" in engine.out("service", "ps", "--no-trunc", name), "a task that waits"
            )
            assert len(engine.containers(name)) == 1
        finally:
            engine("node", "update", "--availability", "active", engine.node)
        engine.running(name, 2)


@check("swarm", quick=True)
def secret(engine: Swarm) -> None:
    engine("secret", "create", "nut", "-", input="kernel")
    with engine.service("--secret", "source=nut,target=shell,mode=0400,uid=1000") as name:
        expect("kernel 400 1000", engine.exec(name, "cat /run/secrets/shell; stat -c ' %a %u' /run/secrets/shell"))
    engine("secret", "rm", "nut")


@check("swarm")
def secret_rotated(engine: Swarm) -> None:
    for version in ("one", "two"):
        engine("secret", "create", f"nut-{version}", "-", input=version)
    with engine.service("--secret", "source=nut-one,target=nut") as name:
        engine.update(name, "--secret-rm", "nut-one", "--secret-add", "source=nut-two,target=nut")
        eventually(lambda: engine.state(name) == "completed", "the end of the update")
        assert engine.exec(name, "cat /run/secrets/nut") == "two"
    engine("secret", "rm", "nut-one", "nut-two")


@check("swarm")
def config(engine: Swarm) -> None:
    engine("config", "create", "shell", "-", input="hard")
    with engine.service("--config", "source=shell,target=/etc/shell.conf,mode=0444") as name:
        assert engine.exec(name, "cat /etc/shell.conf") == "hard"
    engine("config", "rm", "shell")


@check("swarm", quick=True)
def task_killed(engine: Swarm) -> None:
    """A task that dies is replaced."""
    with engine.service() as name:
        before = engine.containers(name)
        os.kill(engine.pid(before[0]), signal.SIGKILL)
        eventually(lambda: engine.containers(name) not in ([], before), "another task")


@check("swarm")
def task_removed(engine: Swarm) -> None:
    with engine.service() as name:
        before = engine.containers(name)
        engine("rm", "-f", *before)
        eventually(lambda: engine.containers(name) not in ([], before), "another task")


@check("swarm")
def restart_none(engine: Swarm) -> None:
    with engine.service("--restart-condition", "none", script="exit 3", wait=0) as name:
        eventually(lambda: "Failed" in engine.out("service", "ps", name), "its end")
        assert len(engine.out("service", "ps", "-q", name).split()) == 1


@check("swarm")
def restart_attempts(engine: Swarm) -> None:
    with engine.service("--restart-max-attempts", "1", script="exit 3", wait=0) as name:
        shown = eventually(
            lambda: (text := engine.out("service", "ps", "--no-trunc", name)).count("Failed") == 2 and text,
            "two attempts",
        )
        assert "non-zero exit (3)" in shown


@check("swarm")
def health_replaces(engine: Swarm) -> None:
    """An unhealthy task is ended and replaced."""
    options = ["--health-cmd", "test ! -e /bad", "--health-interval", "200ms", "--health-retries", "1"]
    with engine.service(*options) as name:
        before = engine.running(name, 1)
        engine("exec", before[0], "touch", "/bad")
        eventually(lambda: engine.containers(name) not in ([], before), "another task")


@check("swarm")
def global_mode(engine: Swarm) -> None:
    with engine.service("--mode", "global") as name:
        words = ["service", "ls", "--format", "{{.Mode}} {{.Replicas}}", "--filter", f"name={name}"]
        eventually(lambda: engine.out(*words) == "global 1/1", "one task")


@check("swarm")
def job(engine: Swarm) -> None:
    options = ["--mode", "replicated-job", "--replicas", "3", "--max-concurrent", "2"]
    with engine.service(*options, "--restart-condition", "none", script="echo done", wait=0) as name:
        words = ["service", "ls", "--format", "{{.Replicas}}", "--filter", f"name={name}"]
        eventually(lambda: "3/3 completed" in engine.out(*words), "three that are complete")


@check("swarm")
def constraint(engine: Swarm) -> None:
    with engine.service("--constraint", "node.labels.nut==wal", wait=0) as name:
        eventually(lambda: "no suitable node" in engine.out("service", "ps", "--no-trunc", name), "a task that waits")
        engine("node", "update", "--label-add", "nut=wal", engine.node)
        engine.running(name, 1)
    engine("node", "update", "--label-rm", "nut", engine.node)


@check("swarm", quick=True)
def limits(engine: Swarm) -> None:
    with engine.service("--limit-memory", "64m", "--limit-cpu", "0.5", "--limit-pids", "77") as name:
        task = engine.running(name, 1)[0]
        assert engine.cgroup(task, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)
        assert engine.cgroup(task, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
        assert engine.cgroup(task, "pids", "pids.max") == "77"


@check("swarm")
def mounts(engine: Swarm) -> None:
    options = ["--mount", f"type=bind,src={engine.shared},dst=/v,ro", "--mount", "type=volume,src=swarmed,dst=/data"]
    with engine.service(*options, "--mount", "type=tmpfs,dst=/t,tmpfs-size=1m") as name:
        expect(
            "walnut\n1\n1",
            engine.exec(name, "cat /v/file; touch /data/x; ls /data | wc -l; grep -c ' /t ' /proc/mounts"),
        )


@check("swarm")
def process_options(engine: Swarm) -> None:
    options = ["--user", "walnut", "--workdir", "/tmp", "--hostname", "n{{.Task.Slot}}", "--read-only", "--env", "A=b"]
    with engine.service(*options, "--init", "--ulimit", "nofile=333:444") as name:
        expect("1000\n/tmp\nn1\nb\n333", engine.exec(name, "id -u; pwd; hostname; echo $A; ulimit -n"))


@check("swarm")
def privileges(engine: Swarm) -> None:
    options = ["--cap-drop", "ALL", "--cap-add", "CAP_CHOWN", "--sysctl", "net.ipv4.ip_forward=0"]
    with engine.service(*options) as name:
        expect(
            "CapEff:\t0000000000000001\n0",
            engine.exec(name, "grep CapEff /proc/1/status; cat /proc/sys/net/ipv4/ip_forward"),
        )


@check("swarm", quick=True)
def publish_on_the_host(engine: Swarm) -> None:
    port = free_port()
    options = ["--publish", f"mode=host,published={port},target=80"]
    with engine.service(*options, script="exec httpd -f -p 80 -h /etc") as name:
        assert "walnut" in fetch(port)
        assert name


@check("swarm")
def overlay_network(engine: Swarm) -> None:
    """Two services on an overlay network, by DNS round robin (no IPVS is needed)."""
    made = engine("network", "create", "--driver", "overlay", "nutlay", code=None)
    if made.code:
        raise Skip(f"no overlay network: {made.err.strip()}")
    try:
        options = ["--network", "nutlay", "--endpoint-mode", "dnsrr"]
        with engine.service(*options, script="exec httpd -f -p 80 -h /etc", wait=0) as server:
            with contextlib.suppress(AssertionError):
                engine.running(server, 1, timeout=15)
            if not engine.containers(server):
                shown = engine.out("service", "ps", "--no-trunc", "--format", "{{.Error}}", server).splitlines()
                if any("vxlan" in line or "operation not supported" in line for line in shown):
                    raise Skip(f"no overlay network: {shown[0]}")
                raise AssertionError(shown)
            with engine.service(*options) as client:
                eventually(lambda: "Address" in engine.exec(client, f"nslookup {server} || true"), "the other's name")
    finally:
        eventually(lambda: engine("network", "rm", "nutlay", code=None).code == 0, "the end of the network")


@check("swarm")
def service_logs(engine: Swarm) -> None:
    with engine.service() as name:
        eventually(lambda: "started" in engine("service", "logs", "--raw", name).out, "its log")


STACK = """\
version: "3.8"
services:
  one:
    image: localhost/box
    command: ["sh", "-c", "exec sleep 1000"]
    environment: {A: b}
    deploy: {replicas: 2, endpoint_mode: dnsrr}
"""


@check("swarm")
def stack(engine: Swarm) -> None:
    path = engine.work / "stack.yaml"
    path.write_text(STACK)
    result = engine("stack", "deploy", "--resolve-image", "never", "-c", str(path), "nutstack", code=None)
    try:
        assert result.code == 0, result.err
        engine.running("nutstack_one", 2)
    finally:
        engine("stack", "rm", "nutstack", code=None)
        eventually(lambda: not engine.containers("nutstack_one"), "the end of its containers")


@check("swarm")
def stop_grace(engine: Swarm) -> None:
    """A task that ignores TERM is killed after its grace period."""
    with engine.service(script="trap '' TERM; while :; do sleep 0.1; done") as name:
        task = engine.running(name, 1)[0]
        pid = engine.pid(task)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the end of its process")


@check("swarm")
def daemon_restart(engine: Swarm) -> None:
    """After a restart of dockerd the services run again."""
    with engine.service("--replicas", "2", wait=2) as name:
        daemon = engine.daemons.pop()
        daemon.terminate()
        daemon.wait(30)
        engine.serve()
        eventually(lambda: engine("node", "ls", code=None).code == 0, "the manager")
        engine.running(name, 2)


@check("swarm")
def leave(engine: Swarm) -> None:
    engine("swarm", "leave", "--force")
    assert engine.out("info", "--format", "{{.Swarm.LocalNodeState}}") == "inactive"
