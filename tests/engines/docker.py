"""Docker: a private dockerd, its own containerd, and the docker command."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.engines import life, rows
from tests.engines.lab import (
    CAP_SYS_RESOURCE,
    IMAGE,
    SHELL_PATH,
    Cli,
    Skip,
    capable,
    check,
    eventually,
    expect,
    fetch,
    free_port,
)
from tests.engines.sandbox import USER

assert life
assert rows


class Docker(Cli):
    """dockerd on a private socket; the runtime under test is the default one, under the name tested."""

    name = "docker"
    needs = ("dockerd", "containerd", "iptables")
    options: tuple[str, ...] = ("--live-restore",)
    before: tuple[str, ...] = ()

    def __init__(self, work: Path, runtime: str) -> None:
        super().__init__(work, runtime)
        self.socket = f"unix://{work}/docker.sock"

    def command(self) -> list[str]:
        # Debian's, whatever else is in the caller's PATH.
        program = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"
        return ["env", f"DOCKER_CONFIG={self.work}", "DOCKER_BUILDKIT=0", program, "-H", self.socket]

    def serve(self) -> None:
        """Start dockerd and wait until it answers."""
        where = ["--data-root", f"{self.work}/docker", "--exec-root", f"{self.work}/exec", "-H", self.socket]
        where += ["--pidfile", f"{self.work}/docker.pid", "--config-file", f"{self.work}/daemon.json"]
        adjust = [] if capable(CAP_SYS_RESOURCE) else ["--oom-score-adjust", "0"]
        runtime = ["--add-runtime", f"tested={self.runtime}", "--default-runtime", "tested"]
        env = {"PATH": f"/usr/sbin:{SHELL_PATH}"}
        self.daemon("dockerd.log", *self.before, "dockerd", *where, *adjust, *runtime, *self.options, env=env)
        eventually(lambda: self("version", code=None).code == 0, "an answer of dockerd", 60)

    def begin(self) -> None:
        # runtimeArgs: dockerd calls a script of its own then.
        with_args = {"runtimes": {"arguments": {"path": self.runtime, "runtimeArgs": ["--debug"]}}}
        (self.work / "daemon.json").write_text(json.dumps(with_args))
        self.serve()
        self("import", "-c", "CMD /bin/sh", str(self.image), IMAGE)

    def finish(self) -> None:
        names = self.out("ps", "-aq", code=None).split()
        if names:
            self("rm", "-f", *names, code=None)
        super().finish()


# -- how docker calls the runtime --------------------------------------------------------------------


@check("docker", quick=True)
def info(engine: Docker) -> None:
    shown = json.loads(engine.out("info", "--format", "{{json .}}"))
    assert shown["DefaultRuntime"] == "tested"
    assert shown["Runtimes"]["tested"]["path"] == engine.runtime


@check("docker")
def runtime_by_name(engine: Docker) -> None:
    assert engine.sh("--runtime tested", "echo hi").out == "hi\n"


@check("docker")
def runtime_arguments(engine: Docker) -> None:
    """A runtime with runtimeArgs."""
    assert engine.sh("--runtime arguments", "echo hi").out == "hi\n"


@check("docker", quick=True)
def daemon_restart(engine: Docker) -> None:
    """live-restore: containers outlive dockerd, and the next one knows them."""
    name = engine.start(script="n=0; while :; do n=$((n+1)); echo $n >/n; sleep 0.05; done")
    pid = engine.pid(name)
    daemon = engine.daemons.pop()
    daemon.kill()
    daemon.wait()
    engine.serve()
    assert (engine.status(name), engine.pid(name)) == ("running", pid)
    assert int(engine.out("exec", name, "cat", "/n")) > 0
    engine("stop", "-t", "0", name)


# -- update, stats ------------------------------------------------------------------------------------


@check("docker", quick=True)
def update(engine: Docker) -> None:
    name = engine.start("--memory 64m --cpus 0.5")
    engine("update", "--memory", "96m", "--memory-swap", "128m", "--cpus", "0.25", name)
    assert engine.cgroup(name, "memory", "memory.limit_in_bytes", "memory.max") == str(96 << 20)
    assert engine.cgroup(name, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "25000"
    engine("update", "--cpu-shares", "300", name)  # docker sends zeros for the rest, which mean: unchanged
    assert engine.cgroup(name, "memory", "memory.limit_in_bytes", "memory.max") == str(96 << 20)
    engine("update", "--memory", "32m", "--memory-swap", "48m", name)
    assert engine.cgroup(name, "memory", "memory.limit_in_bytes", "memory.max") == str(32 << 20)


@check("docker")
def update_pids(engine: Docker) -> None:
    name = engine.start("--pids-limit 50")
    engine("update", "--pids-limit", "77", name)
    assert engine.cgroup(name, "pids", "pids.max") == "77"


@check("docker")
def update_cpuset(engine: Docker) -> None:
    name = engine.start()
    engine("update", "--cpuset-cpus", "0", name)
    assert engine.cgroup(name, "cpuset", "cpuset.cpus") == "0"


@check("docker")
def update_too_small(engine: Docker) -> None:
    """A limit below what is used is refused, and the old one stays."""
    name = engine.start("--memory 64m")
    assert engine("update", "--memory", "1k", name, code=None).code != 0
    assert engine.cgroup(name, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)


@check("docker")
def update_restart(engine: Docker) -> None:
    name = engine.start()
    engine("update", "--restart", "always", name)
    assert engine.field(name, "HostConfig.RestartPolicy.Name") == "always"
    engine("update", "--restart", "no", name)


@check("docker")
def top_options(engine: Docker) -> None:
    name = engine.start(script="exec sleep 777")
    assert "sleep 777" in engine.out("top", name, "-eo", "pid,args")


@check("docker")
def restart_always(engine: Docker) -> None:
    """The container's program is killed, docker starts it again."""
    name = engine.start("--restart always")
    pid = engine.pid(name)
    subprocess.run(["kill", "-9", str(pid)], check=True)
    eventually(lambda: engine.pid(name) not in (0, pid), "another process")
    engine("update", "--restart", "no", name)


@check("docker", quick=True)
def health(engine: Docker) -> None:
    name = engine.start("--health-cmd 'test -e /fine' --health-interval 200ms --health-retries 1")
    eventually(lambda: engine.field(name, "State.Health.Status") == "unhealthy", "unhealthy")
    engine("exec", name, "touch", "/fine")
    eventually(lambda: engine.field(name, "State.Health.Status") == "healthy", "healthy")


@check("docker")
def checkpoint(engine: Docker) -> None:
    if not shutil.which("criu"):
        raise Skip("no criu here")
    if subprocess.run(["criu", "check"], capture_output=True).returncode:
        raise Skip("criu check: this criu does not run on this kernel")
    name = engine.start()
    result = engine("checkpoint", "create", name, "one", code=None)
    if "experimental" in result.err:
        raise Skip("dockerd is not experimental")
    assert result.code == 0, result.err
    engine("start", "--checkpoint", "one", name)


# -- privileges ---------------------------------------------------------------------------------------


@check("docker")
def privileged(engine: Docker) -> None:
    if not capable(CAP_SYS_RESOURCE):
        raise Skip("docker asks for CAP_SYS_RESOURCE by name, and root has it not here")
    assert engine.sh("--privileged", "mount -t tmpfs t /tmp && echo mounted").out == "mounted\n"


@check("docker")
def exec_privileged(engine: Docker) -> None:
    if not capable(CAP_SYS_RESOURCE):
        raise Skip("docker asks for CAP_SYS_RESOURCE by name, and root has it not here")
    text = engine.out("exec", "--privileged", engine.box(), "grep", "CapEff", "/proc/self/status")
    assert int(text.split()[1], 16) >> 21 & 1, text


@check("docker")
def caps_sys_admin(engine: Docker) -> None:
    options = "--cap-add sys_admin --security-opt apparmor=unconfined"
    assert engine.sh(options, "mount -t tmpfs t /tmp && echo mounted").out == "mounted\n"


@check("docker")
def device_cgroup_rule(engine: Docker) -> None:
    script = "mknod /dev/nut c 10 229; exec 3<>/dev/nut && echo opened"
    assert engine.sh("--device-cgroup-rule 'c 10:229 rwm'", script).out == "opened\n"


@check("docker")
def cgroup_parent(engine: Docker) -> None:
    name = engine.start("--cgroup-parent /nutparent")
    assert "/nutparent/" in Path(f"/proc/{engine.pid(name)}/cgroup").read_text()


@check("docker")
def blkio_weight(engine: Docker) -> None:
    if not list(Path("/sys/fs/cgroup").glob("blkio/blkio.bfq.weight")) and not list(
        Path("/sys/fs/cgroup").glob("blkio/blkio.weight")
    ):
        raise Skip("this kernel has no weights for block devices")
    assert engine.sh("--blkio-weight 300", "echo fine").out == "fine\n"


@check("docker")
def memory_in_detail(engine: Docker) -> None:
    name = engine.start("--memory 64m --memory-swap 128m --memory-reservation 32m --oom-kill-disable=false")
    assert engine.cgroup(name, "memory", "memory.soft_limit_in_bytes", "memory.low") == str(32 << 20)


@check("docker")
def userns_of_the_host(engine: Docker) -> None:
    assert engine.sh("--userns host", "cat /proc/self/uid_map").out.split() == ["0", "0", "4294967295"]


@check("docker")
def userns_remap(engine: Docker) -> None:
    """A second dockerd whose containers have a user namespace."""
    other = Remapped(engine.work / "remap", engine)
    try:
        other.serve()
        other("import", "-c", "CMD /bin/sh", str(engine.image), IMAGE)
        assert other.sh("", "cat /proc/self/uid_map; touch /x && stat -c %u /x").out.split() == [
            "0",
            "200000",
            "65536",
            "0",
        ]
        name = other.start()
        assert Path(f"/proc/{other.pid(name)}").stat().st_uid == 200000
        assert other.out("exec", name, "id", "-u") == "0"
        other("rm", "-f", name)
    finally:
        other.finish()


class Remapped(Docker):
    """dockerd with --userns-remap, in a network namespace of its own."""

    options = ("--userns-remap", USER, "--bridge", "none", "--iptables=false")
    before = ("unshare", "-n")  # dockerd without a bridge removes the bridge of the other

    def __init__(self, work: Path, engine: Docker) -> None:
        work.mkdir()
        super().__init__(work, engine.runtime)
        work.chmod(0o711)
        (work / "daemon.json").write_text("{}")

    def start(self, options: str = "", script: str = "exec sleep 1000") -> str:
        return super().start(f"--network none {options}", script)


# -- networks ---------------------------------------------------------------------------------------


@check("docker", quick=True)
def network_address(engine: Docker) -> None:
    """What the prestart hook does reaches the container: address, route, MAC."""
    options = "--mac-address 02:42:ac:11:00:77"
    shown = engine.sh(options, "ip -o -4 addr show eth0; ip route; cat /sys/class/net/eth0/address").out
    expect(r".*inet 172\..*default via 172\..*02:42:ac:11:00:77", shown)


@check("docker")
def network_alias(engine: Docker) -> None:
    engine("network", "create", "aliasnet")
    try:
        name = engine.new_name()
        engine(
            "run", "-d", "--name", name, "--network", "aliasnet", "--network-alias", "kernel", IMAGE, "sleep", "1000"
        )
        assert "Address" in engine.sh("--network aliasnet", "nslookup kernel").out
    finally:
        engine("rm", "-f", *engine.made, code=None)
        engine("network", "rm", "aliasnet")


@check("docker")
def network_fixed_address(engine: Docker) -> None:
    engine("network", "create", "--subnet", "10.77.0.0/24", "fixednet")
    try:
        assert "10.77.0.77/24" in engine.sh("--network fixednet --ip 10.77.0.77", "ip -o -4 addr show eth0").out
    finally:
        engine("network", "rm", "fixednet")


@check("docker")
def link(engine: Docker) -> None:
    name = engine.start(script="exec httpd -f -p 80 -h /etc")
    assert "nut" in engine.sh(f"--link {name}:nut", "grep nut /etc/hosts").out


@check("docker")
def publish_again(engine: Docker) -> None:
    """A port is free again after its container."""
    port = free_port()
    for _ in range(2):
        name = engine.start(f"-p {port}:80", "exec httpd -f -p 80 -h /etc")
        assert "walnut" in fetch(port)
        engine("rm", "-f", name)


# -- the rest ---------------------------------------------------------------------------------------


@check("docker")
def logs_tail(engine: Docker) -> None:
    name = engine.start(script="for i in 1 2 3 4; do echo $i; done")
    engine("wait", name)
    assert engine.out("logs", "--tail", "2", name) == "3\n4"


@check("docker")
def log_driver_none(engine: Docker) -> None:
    assert engine.sh("--log-driver none", "echo hi").out == "hi\n"


@check("docker")
def build_user_and_cache(engine: Docker) -> None:
    context = engine.shared / "cache"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text("FROM localhost/box\nUSER walnut\nRUN id -u >/tmp/u\nRUN cat /tmp/u\n")
    engine("build", "-q", "-t", "localhost/cached", str(context))
    again = engine.out("build", "-t", "localhost/cached", str(context))
    assert again.count("Using cache") == 3
    assert engine.out("run", "--rm", "localhost/cached", "cat", "/tmp/u") == "1000"
    engine("rmi", "localhost/cached")


@check("docker")
def build_limits(engine: Docker) -> None:
    context = engine.shared / "limits"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text("FROM localhost/box\nRUN ulimit -n | grep -x 777\n")
    engine("build", "--ulimit", "nofile=777:777", "--memory", "64m", "--network", "none", str(context))


@check("docker")
def stop_many(engine: Docker) -> None:
    names = [engine.start() for _ in range(3)]
    engine("kill", *names)
    engine("rm", *names)


@check("docker")
def many_at_once(engine: Docker) -> None:
    argv = [*engine.command(), "run", "--rm", IMAGE, "echo", "hi"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = [subprocess.Popen(argv, text=True, **pipes) for _ in range(8)]
    for process in running:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out) == (0, "hi\n"), err


@check("docker")
def nothing_left(engine: Docker) -> None:
    """No state and no cgroup of what has ended."""
    name = engine.start()
    identifier = engine.field(name, "Id")
    engine("rm", "-f", name)
    for pattern in (f"exec/runtime-*/moby/{identifier}", f"exec/containerd/daemon/*/moby/{identifier}"):
        eventually(lambda pattern=pattern: not list(engine.work.glob(pattern)), f"the end of {pattern}")
    eventually(lambda: not list(Path("/sys/fs/cgroup").glob(f"*/docker/{identifier}")), "the end of the cgroups")
