"""podman as root: what it has beyond docker's command line."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.engines import life, rows
from tests.engines.lab import IMAGE, Cli, Skip, check, eventually, expect, fetch, free_port

assert life
assert rows

# No systemd and no journal; root without CAP_SYS_RESOURCE may not raise limits (every run would fail).
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
log_driver = "k8s-file"
[network]
network_backend = "netavark"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
{lists}
[engine.runtimes]
{name} = ["{runtime}"]
"""
BOTH = "podman rootless"


class Podman(Cli):
    """podman with the system's paths, which are the sandbox's."""

    name = "podman"
    needs = ("podman", "conmon")
    remove = ("rm", "-f", "-t", "0")

    def conf(self, name: str, lists: str = "") -> Path:
        """A containers.conf."""
        path = self.work / name
        path.write_text(CONTAINERS_CONF.format(lists=lists, name=self.flavour, runtime=self.runtime))
        path.chmod(0o644)
        return path

    def command(self) -> list[str]:
        return ["podman", "--runtime", self.runtime]

    def begin(self) -> None:
        shutil.copy(self.conf("containers.conf"), "/etc/containers/containers.conf")
        self("import", "-c", "CMD=/bin/sh", str(self.image), IMAGE)

    def finish(self) -> None:
        self("rm", "-a", "-f", "-t", "0", code=None)
        super().finish()


# -- pods -----------------------------------------------------------------------------------


def pod(engine: Podman, *options: str) -> str:
    """A pod; it is removed by the caller."""
    name = f"pod{engine.number}"
    engine.number += 1
    engine("pod", "create", "--name", name, *options)
    return name


def remove_pod(engine: Podman, name: str) -> None:
    engine("pod", "rm", "-f", "-t", "0", name)


@check(BOTH, quick=True)
def pod_network(engine: Podman) -> None:
    """Containers of a pod reach each other on the loopback; the pod publishes the port."""
    port = free_port()
    name = pod(engine, "-p", f"127.0.0.1:{port}:80")
    try:
        engine.start(f"--pod {name}", "exec httpd -f -p 80 -h /etc")
        assert "walnut" in fetch(port)
        assert engine.sh(f"--pod {name}", "wget -q -O - http://127.0.0.1/index.html").out == "hello from the box\n"
    finally:
        remove_pod(engine, name)


@check(BOTH)
def pod_namespaces(engine: Podman) -> None:
    name = pod(engine, "--hostname", "nutshell")
    try:
        script = "hostname; for n in ipc net uts; do readlink /proc/self/ns/$n; done"
        first, second = (engine.sh(f"--pod {name}", script).out for _ in range(2))
        assert first == second
        assert first.startswith("nutshell\n")
    finally:
        remove_pod(engine, name)


@check(BOTH)
def pod_pid_namespace(engine: Podman) -> None:
    name = pod(engine, "--share", "pid,net,ipc,uts")
    try:
        engine.start(f"--pod {name}", "exec sleep 777")
        assert "sleep 777" in engine.sh(f"--pod {name}", "ps").out
    finally:
        remove_pod(engine, name)


@check(BOTH, quick=True)
def pod_stop_and_start(engine: Podman) -> None:
    name = pod(engine)
    try:
        inner = engine.start(f"--pod {name}")
        engine("pod", "stop", "-t", "0", name)
        assert engine.status(inner) == "exited"
        engine("pod", "start", name)
        assert engine.status(inner) == "running"
        engine("pod", "restart", name, timeout=120)
        assert engine.out("exec", inner, "echo", "again") == "again"
    finally:
        remove_pod(engine, name)


@check("podman")
def pod_pause(engine: Podman) -> None:
    name = pod(engine)
    try:
        inner = engine.start(f"--pod {name}")
        engine("pod", "pause", name)
        assert engine.status(inner) == "paused"
        engine("pod", "unpause", name)
        assert engine.status(inner) == "running"
    finally:
        remove_pod(engine, name)


@check("podman")
def pod_stats_top(engine: Podman) -> None:
    name = pod(engine)
    try:
        engine.start(f"--pod {name}", "exec sleep 777")
        assert "sleep 777" in engine.out("pod", "top", name)
        assert name[:3] in engine.out("pod", "stats", "--no-stream", "--format", "{{.Pod}} pod")
    finally:
        remove_pod(engine, name)


@check("podman")
def pod_limits(engine: Podman) -> None:
    """The pod's cgroup is the parent of its containers' cgroups."""
    name = pod(engine, "--cpus", "0.5")
    try:
        inner = engine.start(f"--pod {name}")
        identifier = engine.out("pod", "inspect", "--format", "{{.ID}}", name)
        assert identifier in Path(f"/proc/{engine.pid(inner)}/cgroup").read_text()
    finally:
        remove_pod(engine, name)


KUBE = """\
apiVersion: v1
kind: Pod
metadata: {name: kubenut}
spec:
  containers:
  - name: one
    image: localhost/box
    imagePullPolicy: Never
    command: ["/bin/sleep", "1000"]
    env: [{name: A, value: b}]
    securityContext: {runAsUser: 1000, readOnlyRootFilesystem: true}
"""


@check(BOTH)
def play_kube(engine: Podman) -> None:
    path = engine.shared / "pod.yaml"
    path.write_text(KUBE)
    engine("play", "kube", str(path))
    try:
        expect("b\n1000", engine.out("exec", "kubenut-one", "/bin/sh", "-c", "echo $A; /bin/id -u"))
    finally:
        engine("play", "kube", "--down", str(path))


# -- how podman calls the runtime -------------------------------------------------------------


def listed(engine: Podman) -> dict[str, str]:
    """The environment in which podman knows the runtime by name, and that it writes JSON logs."""
    name = engine.flavour
    lists = f'runtime = "{name}"\nruntime_supports_json = ["{name}"]\nruntime_supports_nocgroup = ["{name}"]'
    return {"CONTAINERS_CONF": str(engine.conf("listed.conf", lists))}


def plain(engine: Podman, *args: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """podman without --runtime, with the configuration of listed()."""
    argv = [word for word in engine.command() if word not in ("--runtime", engine.runtime)]
    at = argv.index("podman")
    argv[at:at] = ["env", *(f"{key}={value}" for key, value in listed(engine).items())]
    done = subprocess.run([*argv, *args], capture_output=True, text=True, timeout=120, cwd=engine.work)
    assert code is None or done.returncode == code, done.stderr
    return done


@check(BOTH, quick=True)
def runtime_by_name(engine: Podman) -> None:
    assert plain(engine, "run", "--rm", IMAGE, "echo", "hi").stdout == "hi\n"
    shown = plain(engine, "info", "--format", "{{.Host.OCIRuntime.Name}} {{.Host.OCIRuntime.Version}}").stdout
    assert shown.startswith(f"{engine.flavour} {engine.flavour} version "), shown


@check(BOTH, quick=True)
def runtime_json_log(engine: Podman) -> None:
    result = plain(engine, "run", "--rm", IMAGE, "nosuch", code=127)
    assert "not found in $PATH" in result.stderr


@check("podman", quick=True)
def drop_in(engine: Podman) -> None:
    """share/containers.conf.d/pyoci.conf, copied as docs/ENGINES.md says."""
    if engine.flavour != "pyoci":
        raise Skip("it names pyoci")
    text = (Path(__file__).parents[2] / "share/containers.conf.d/pyoci.conf").read_text()
    path = Path("/etc/containers/containers.conf.d/pyoci.conf")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.replace("@BINDIR@", str(Path(engine.runtime).parent)))
    try:
        argv = ["podman", "--runtime", "pyoci", "run", "--rm", IMAGE, "echo", "hello"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd=engine.work)
        assert done.stdout == "hello\n", done.stderr
        assert (
            subprocess.run([*argv[:-2], "nosuch"], capture_output=True, timeout=120, cwd=engine.work).returncode == 127
        )
    finally:
        path.unlink()


@check(BOTH)
def cgroups_disabled(engine: Podman) -> None:
    if engine.flavour == "runc":
        raise Skip("runc has no --cgroup-manager disabled, podman refuses")
    assert plain(engine, "run", "--rm", "--cgroups=disabled", IMAGE, "echo", "hi").stdout == "hi\n"


@check("podman")
def cgroups_no_conmon(engine: Podman) -> None:
    assert engine.sh("--cgroups=no-conmon", "echo hi").out == "hi\n"


@check("podman")
def cgroup_parent(engine: Podman) -> None:
    name = engine.start("--cgroup-parent /nutparent")
    assert "/nutparent/libpod-" in Path(f"/proc/{engine.pid(name)}/cgroup").read_text()


@check("podman")
def debug_level(engine: Podman) -> None:
    """At debug level podman passes no log options and takes the words of stderr."""
    argv = [*engine.command(), "--log-level=debug", "run", "--rm", IMAGE, "nosuch"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd=engine.work)
    assert done.returncode == 127
    assert "not found in $PATH" in done.stderr


@check("podman", quick=True)
def update(engine: Podman) -> None:
    name = engine.start("--memory 64m --cpus 0.5")
    engine("update", "--memory", "96m", "--cpus", "0.25", name)
    assert engine.cgroup(name, "memory", "memory.limit_in_bytes", "memory.max") == str(96 << 20)
    assert engine.cgroup(name, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "25000"


@check("podman")
def checkpoint_restore(engine: Podman) -> None:
    if not shutil.which("criu"):
        raise Skip("no criu here")
    if subprocess.run(["criu", "check"], capture_output=True).returncode:
        raise Skip("criu check: this criu does not run on this kernel")
    name = engine.start(script="n=0; while :; do n=$((n+1)); echo $n >/n; sleep 0.1; done")
    engine("container", "checkpoint", name)
    assert engine.status(name) == "exited"
    engine("container", "restore", name)
    assert engine.status(name) == "running"


@check(BOTH)
def init_verb(engine: Podman) -> None:
    """podman init: create without start."""
    name = engine.new_name()
    engine("create", "--name", name, IMAGE, "sh", "-c", "echo hello")
    engine("init", name)
    assert engine.status(name) == "initialized"
    engine("start", name)
    engine("wait", name)
    assert engine.out("logs", name) == "hello"


@check(BOTH)
def init_verb_rm(engine: Podman) -> None:
    name = engine.new_name()
    engine("create", "--name", name, IMAGE, "true")
    engine("init", name)
    engine("rm", "-f", name)


@check(BOTH)
def stop_host_pid(engine: Podman) -> None:
    """Without a pid namespace, kill --all ends what is in the cgroup."""
    if engine.name == "rootless":
        raise Skip("without cgroup rights there is no telling who belongs to it")
    name = engine.start("--pid host", "sleep 776 & exec sleep 776")
    pid = engine.pid(name)
    engine("stop", "-t", "1", name)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the end of its process")
    eventually(lambda: "sleep 776" not in subprocess.getoutput("ps ax"), "the end of the other process")


@check("podman", quick=True)
def hooks(engine: Podman) -> None:
    """--hooks-dir: prestart or createRuntime gets the state, poststop runs at the end."""
    directory = engine.work / "hooks"
    directory.mkdir(exist_ok=True)
    script = directory / "hook"
    script.write_text(f'#!/bin/sh\ncat >"{engine.shared}/hook.$1"\n')
    script.chmod(0o755)
    for stage in ("prestart", "poststop"):
        text = {"version": "1.0.0", "hook": {"path": str(script), "args": ["hook", stage]}}
        (directory / f"{stage}.json").write_text(json.dumps({**text, "when": {"always": True}, "stages": [stage]}))
    argv = [*engine.command(), "--hooks-dir", str(directory), "run", "--rm", IMAGE, "true"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd=engine.work)
    assert done.returncode == 0, done.stderr
    before, after = (json.loads((engine.shared / f"hook.{stage}").read_text()) for stage in ("prestart", "poststop"))
    assert before["pid"] > 0
    assert (before["status"] in ("created", "creating"), after["status"]) == (True, "stopped")


@check("podman")
def hook_failing(engine: Podman) -> None:
    directory = engine.work / "badhooks"
    directory.mkdir(exist_ok=True)
    text = {"version": "1.0.0", "hook": {"path": "/bin/false"}, "when": {"always": True}, "stages": ["prestart"]}
    (directory / "bad.json").write_text(json.dumps(text))
    argv = [*engine.command(), "--hooks-dir", str(directory), "run", "--rm", IMAGE, "true"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd=engine.work)
    assert done.returncode not in (0, 1), done.stderr
    assert "hook" in done.stderr


def with_descriptor(engine: Podman, env: list[str], *args: str) -> str:
    """What podman prints when descriptor 3 is a file that reads nut."""
    path = engine.shared / "inherited"
    path.write_text("nut\n")
    argv = ["sh", "-c", f'exec 3<"{path}"; LISTEN_PID=$$ exec "$@"', "sh", *env, *engine.command(), *args]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd=engine.work)
    assert done.returncode == 0, done.stderr
    return done.stdout


@check("podman")
def preserve_fds(engine: Podman) -> None:
    assert with_descriptor(engine, [], "run", "--rm", "--preserve-fds", "1", IMAGE, "sh", "-c", "cat <&3") == "nut\n"


@check("podman")
def exec_preserve_fds(engine: Podman) -> None:
    args = ["exec", "--preserve-fds", "1", engine.box(), "sh", "-c", "cat <&3"]
    assert with_descriptor(engine, [], *args) == "nut\n"


@check("podman")
def listen_fds(engine: Podman) -> None:
    """Socket activation: LISTEN_FDS passes through podman and conmon to pid 1."""
    shown = with_descriptor(
        engine, ["env", "LISTEN_FDS=1"], "run", "--rm", IMAGE, "sh", "-c", "echo $LISTEN_FDS $LISTEN_PID; cat <&3"
    )
    assert shown == "1 1\nnut\n"


@check("podman")
def sdnotify(engine: Podman) -> None:
    """--sdnotify=container: READY=1 of the container reaches podman's notify socket."""
    path = engine.work / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        server.settimeout(60)
        name = engine.new_name()
        script = 'echo "$NOTIFY_SOCKET"; test -S "$NOTIFY_SOCKET" && exec sleep 1000'
        argv = ["env", f"NOTIFY_SOCKET={path}", *engine.command(), "run", "-d", "--sdnotify=conmon", "--name", name]
        done = subprocess.run(
            [*argv, IMAGE, "sleep", "1000"], capture_output=True, text=True, timeout=120, cwd=engine.work
        )
        assert done.returncode == 0, done.stderr
        assert b"MAINPID=" in server.recv(4096)
        assert script
    path.unlink()


@check(BOTH)
def exec_privileged(engine: Podman) -> None:
    text = engine.out("exec", "--privileged", engine.box(), "grep", "CapEff", "/proc/self/status")
    assert int(text.split()[1], 16) >> 21 & 1, text  # CAP_SYS_ADMIN


@check(BOTH)
def rootfs_directory(engine: Podman) -> None:
    """--rootfs: no image, the directory itself."""
    if engine.name == "rootless":
        raise Skip("the directory is root's")
    done = engine("run", "--rm", "--rootfs", f"{engine.work}/rootfs:O", "cat", "/etc/index.html")
    assert done.out == "hello from the box\n"


@check(BOTH)
def mount_image(engine: Podman) -> None:
    options = f"--mount type=image,source={IMAGE},destination=/image"
    assert engine.sh(options, "cat /image/etc/index.html").out == "hello from the box\n"


@check(BOTH)
def secret(engine: Podman) -> None:
    engine("secret", "create", "nutsecret", "-", input="kernel")
    try:
        assert engine.sh("--secret nutsecret", "cat /run/secrets/nutsecret").out == "kernel"
        assert engine.sh("--secret nutsecret,type=env,target=NUT", "echo $NUT").out == "kernel\n"
    finally:
        engine("secret", "rm", "nutsecret")


@check("podman")
def userns_auto(engine: Podman) -> None:
    shown = engine.sh("--userns=auto:size=3000", "cat /proc/self/uid_map").out.split()
    assert shown[0] == "0"
    assert int(shown[1]) >= 400000
    assert shown[2] == "3000"


@check("podman")
def userns_of_container(engine: Podman) -> None:
    name = engine.start("--uidmap 0:100000:5000")
    expect(r"0\s+100000\s+5000", engine.sh(f"--userns container:{name}", "cat /proc/self/uid_map").out)


@check("podman")
def userns_exec(engine: Podman) -> None:
    name = engine.start("--uidmap 0:100000:5000")
    expect(r"0\s+100000\s+5000\n0", engine.out("exec", name, "sh", "-c", "cat /proc/self/uid_map; id -u"))
    assert os.stat(f"/proc/{engine.pid(name)}").st_uid == 100000


@check("podman")
def network_by_path(engine: Podman) -> None:
    subprocess.run(["ip", "netns", "add", "nutns"], check=True)
    try:
        subprocess.run(["ip", "-n", "nutns", "link", "add", "nut0", "type", "bridge"], check=True)
        assert "nut0" in engine.sh("--network ns:/run/netns/nutns", "ls /sys/class/net").out
    finally:
        subprocess.run(["ip", "netns", "delete", "nutns"], check=True)


@check("podman")
def network_reload(engine: Podman) -> None:
    port = free_port()
    name = engine.start(f"-p 127.0.0.1:{port}:80", "exec httpd -f -p 80 -h /etc")
    engine("network", "reload", name)
    assert "walnut" in fetch(port)


@check("podman")
def device_cgroup_rule(engine: Podman) -> None:
    """A rule for a device that is made later."""
    script = "mknod /dev/nut c 10 229; exec 3<>/dev/nut && echo opened"
    assert engine.sh("--device-cgroup-rule 'c 10:229 rwm'", script).out == "opened\n"


@check("podman")
def limits_in_detail(engine: Podman) -> None:
    name = engine.start("--memory 64m --memory-swap 128m --memory-reservation 32m --cpu-period 50000 --cpu-quota 20000")
    assert engine.cgroup(name, "memory", "memory.soft_limit_in_bytes", "memory.low") == str(32 << 20)
    assert engine.cgroup(name, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "20000"
    limits = engine.cgroup(name, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
    assert limits in (str(128 << 20), str(64 << 20))


@check("podman")
def cgroup_removed(engine: Podman) -> None:
    name = engine.start()
    identifier = engine.field(name, "Id")
    engine(*engine.remove, name)
    eventually(lambda: not list(Path("/sys/fs/cgroup").glob(f"**/libpod-{identifier}")), "the end of its cgroups")


@check(BOTH)
def state_removed(engine: Podman) -> None:
    """Nothing of the containers that are gone is left with the runtime."""
    if engine.box_name:
        engine(*engine.remove, engine.box_name)
        engine.box_name = ""
    places = [Path("/run") / engine.flavour, Path("/run/user/4711") / engine.flavour]
    left = [str(path) for place in places if place.is_dir() for path in place.iterdir()]
    known = engine.out("ps", "-aq", "--no-trunc").split()
    assert not [path for path in left if Path(path).name not in known and Path(path).name[0] != "."], left


@check(BOTH)
def many_at_once(engine: Podman) -> None:
    """Eight containers side by side."""
    argv = [*engine.command(), "run", "--rm", IMAGE, "echo", "hi"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": engine.work}
    running = [subprocess.Popen(argv, text=True, **pipes) for _ in range(8)]
    for process in running:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out) == (0, "hi\n"), err


@check(BOTH)
def wait_condition(engine: Podman) -> None:
    name = engine.start(script="sleep 0.3; exit 4")
    started = time.monotonic()
    assert engine.out("wait", "--condition", "stopped", name) == "4"
    assert time.monotonic() - started < 20
