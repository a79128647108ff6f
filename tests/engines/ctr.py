"""containerd with its own client: the shim calls the runtime as it does for Docker and Kubernetes."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import IO, Any

from tests.engines.lab import IMAGE, PROFILE, SHELL_PATH, Engine, Skip, all_mounted, check, eventually, expect
from tests.integration.harness import Result

# When a process ends before ctr has opened its streams, ctr gives up on them and what was printed is lost, with any
# runtime.  So a script whose output counts waits until it has been read.
MARK = "@read"
HELD = f'(eval "$0"); code=$?; echo {MARK}; echo {MARK} >&2; read x; exit $code'

CONFIG = """\
version = 2
root = "{work}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{socket}"
"""


def up_to_mark(stream: IO[str] | None) -> str:
    """What a stream brings, to MARK or to its end."""
    assert stream is not None
    lines = []
    for line in stream:
        lines.append(line)
        if line == f"{MARK}\n":
            break
    return "".join(lines)


def go_on(client: subprocess.Popen[str]) -> None:
    """Let a HELD script end."""
    assert client.stdin is not None
    client.stdin.write("\n")
    client.stdin.flush()


class Ctr(Engine):
    """containerd on a private socket, and ctr."""

    name = "ctr"
    needs = ("containerd", "ctr", "umoci")

    def __init__(self, work: Path, runtime: str) -> None:
        super().__init__(work, runtime)
        self.socket = "/run/containerd/private.sock"
        self.number = 0
        self.made: list[str] = []

    def command(self) -> list[str]:
        return ["ctr", "-a", self.socket]

    def serve(self) -> None:
        """Start containerd and wait until it answers."""
        env = {"PATH": f"{self.work}/bin:{SHELL_PATH}"}  # where the runtime is called runc
        self.daemon("containerd.log", "containerd", "-c", str(self.work / "containerd.toml"), env=env)
        eventually(lambda: self("version", code=None).code == 0, "an answer of containerd")

    def begin(self) -> None:
        (self.work / "containerd.toml").write_text(CONFIG.format(work=self.work, socket=self.socket))
        (self.work / "bin").mkdir()
        (self.work / "bin/runc").symlink_to(self.runtime)
        layout = self.work / "layout"
        for words in (
            ["init", "--layout", str(layout)],
            ["new", "--image", f"{layout}:latest"],
            ["insert", "--image", f"{layout}:latest", str(self.work / "rootfs"), "/"],
            ["config", "--image", f"{layout}:latest", "--config.env", "PATH=/bin", "--config.cmd", "/bin/sh"],
        ):
            subprocess.run(["umoci", *words], check=True, capture_output=True)
        subprocess.run(["tar", "-C", layout, "-cf", self.work / "layout.tar", "."], check=True)
        self.serve()
        self("images", "import", "--base-name", IMAGE, str(self.work / "layout.tar"))

    def options(self) -> list[str]:
        return ["run", "--runtime", "io.containerd.runc.v2", "--runc-binary", self.runtime]

    def create(self, *argv: str) -> str:
        """containers create, which cannot say which runtime: it is the runc of containerd's PATH."""
        name = self.new_name()
        self("containers", "create", "--runtime", "io.containerd.runc.v2", f"{IMAGE}:latest", name, *argv)
        return name

    def new_name(self) -> str:
        self.number += 1
        self.made.append(f"walnut{self.number}")
        return self.made[-1]

    def run(self, *options: str, argv: list[str], **more: Any) -> Any:
        """run --rm of a command."""
        code = more.pop("code", 0)
        result = self(*self.options(), "--rm", *options, f"{IMAGE}:latest", self.new_name(), *argv, **more, code=None)
        if "flag provided but not defined" in result.err:
            raise Skip(f"this ctr has no {options[0]}")
        assert code in (None, result.code), f"exited {result.code}: {result.err}"
        return result

    def held(self, *args: str, script: str, code: int = 0) -> Result:
        """A command of ctr, with a script for the container, which ends when its output has been read."""
        with self.background(*args, "sh", "-c", HELD, script) as client:
            out, err = up_to_mark(client.stdout), up_to_mark(client.stderr)
            if out.endswith(f"{MARK}\n"):
                go_on(client)
            status = client.wait(60)
        unknown = re.search(r"flag provided but not defined: (\S+)", err)
        if unknown:
            raise Skip(f"this ctr has no -{unknown[1]}")
        assert status == code, f"exited {status}, not {code}: {err}"
        return Result(status, *(text.removesuffix(f"{MARK}\n") for text in (out, err)))

    def sh(self, script: str, *options: str, code: int = 0) -> str:
        """What a script prints."""
        words = [*self.options(), "--rm", *options, f"{IMAGE}:latest", self.new_name()]
        return self.held(*words, script=script, code=code).out.strip()

    def start(self, *options: str, script: str = "exec sleep 1000") -> str:
        """run -d; the name."""
        name = self.new_name()
        self(*self.options(), "-d", *options, f"{IMAGE}:latest", name, "sh", "-c", script)
        return name

    def pid(self, name: str) -> int:
        lines = [line.split() for line in self.out("task", "ls").splitlines()]
        return int(next(words[1] for words in lines if words[0] == name))

    def status(self, name: str) -> str:
        """CREATED, RUNNING, PAUSED, STOPPED, or "" without a task."""
        lines = [line.split() for line in self.out("task", "ls").splitlines()]
        return next((words[2] for words in lines if words[0] == name), "")

    def said(self, name: str, script: str, *options: str, code: int = 0) -> Result:
        """What a script prints that is executed in a container."""
        self.number += 1
        return self.held("task", "exec", "--exec-id", f"e{self.number}", *options, name, script=script, code=code)

    def exec(self, name: str, *argv: str, options: tuple[str, ...] = (), **more: Any) -> Any:
        self.number += 1
        return self("task", "exec", "--exec-id", f"e{self.number}", *options, name, *argv, **more)

    def after_check(self) -> None:
        made, self.made = self.made, []
        for name in made:
            if self("containers", "info", name, code=None).code == 0:
                self("task", "delete", "-f", name, code=None)
                self("containers", "delete", name, code=None)

    def cgroup(self, pid: int, controller: str, v1: str, v2: str) -> str:
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                return Path(f"/sys/fs/cgroup/{controller}{path}/{v1}").read_text().strip()
            if not controllers and not Path("/sys/fs/cgroup", controller).is_dir():
                return Path(f"/sys/fs/cgroup{path}/{v2}").read_text().strip()
        raise LookupError(controller)


# -- run -----------------------------------------------------------------------------------------


@check("ctr", quick=True)
def run_output(engine: Ctr) -> None:
    words = [*engine.options(), "--rm", f"{IMAGE}:latest", engine.new_name()]
    result = engine.held(*words, script="echo out; echo err >&2; exit 7", code=7)
    assert (result.out, result.err) == ("out\n", "err\n")


@check("ctr", quick=True)
def run_code(engine: Ctr) -> None:
    engine.run(argv=["sh", "-c", "exit 42"], code=42)


@check("ctr")
def run_killed(engine: Ctr) -> None:
    engine.run(argv=["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], code=137)


@check("ctr")
def run_input(engine: Ctr) -> None:
    words = [
        *engine.options(),
        "--rm",
        f"{IMAGE}:latest",
        engine.new_name(),
        "sh",
        "-c",
        "head -c 120000 | wc -c; read x",
    ]
    with engine.background(*words) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write("walnut" * 20000)
        client.stdin.flush()
        assert client.stdout.readline().strip() == "120000"
        client.stdin.write("\n")
        client.stdin.flush()
        assert client.wait(60) == 0


@check("ctr", quick=True)
def run_terminal(engine: Ctr) -> None:
    words = [*engine.options(), "--rm", "-t", f"{IMAGE}:latest", engine.new_name()]
    with engine.terminal(*words, "sh", "-c", "tty; read x; echo got $x; exit 3") as pty:
        pty.read("/dev/pts/0")
        pty.type("nut\n")
        pty.read("got nut")
        assert pty.wait() == 3


@check("ctr")
def run_terminal_resize(engine: Ctr) -> None:
    script = "echo ready; until [ \"$(stty size)\" = '33 99' ]; do sleep 0.05; done; echo resized"
    words = [*engine.options(), "--rm", "-t", f"{IMAGE}:latest", engine.new_name()]
    with engine.terminal(*words, "sh", "-c", script) as pty:
        pty.read("ready")
        pty.resize_until(33, 99, "resized")
        assert pty.wait() == 0


@check("ctr")
def run_env(engine: Ctr) -> None:
    assert engine.sh("echo $A", "--env", "A=b") == "b"


@check("ctr")
def run_cwd(engine: Ctr) -> None:
    assert engine.sh("pwd", "--cwd", "/home") == "/home"


@check("ctr")
def run_user(engine: Ctr) -> None:
    expect("1000\n1000", engine.sh("id -u; id -g", "--user", "1000:1000"))


@check("ctr")
def run_user_name(engine: Ctr) -> None:
    assert engine.sh("id -u", "--user", "walnut") == "1000"


@check("ctr", quick=True)
def run_not_found(engine: Ctr) -> None:
    result = engine.run(argv=["nosuch"], code=1)
    assert "not found in $PATH" in result.err


@check("ctr")
def run_not_executable(engine: Ctr) -> None:
    assert "permission denied" in engine.run(argv=["/etc/notexec"], code=1).err.lower()


@check("ctr")
def read_only(engine: Ctr) -> None:
    assert "Read-only file system" in engine.sh("touch /x 2>&1", "--read-only", code=1)


@check("ctr", quick=True)
def mount_bind(engine: Ctr) -> None:
    option = f"type=bind,src={engine.shared},dst=/v,options=rbind:ro"
    expect("walnut\n.*Read-only file system", engine.sh("cat /v/file; touch /v/x 2>&1 || true", "--mount", option))


@check("ctr")
def mount_tmpfs(engine: Ctr) -> None:
    option = "type=tmpfs,src=tmpfs,dst=/t,options=size=1m:nosuid"
    assert "size=1024k" in engine.sh("grep ' /t ' /proc/mounts", "--mount", option)


@check("ctr")
def net_own(engine: Ctr) -> None:
    assert engine.sh("ls /sys/class/net") == "lo"


@check("ctr")
def net_host(engine: Ctr) -> None:
    assert "outside0" in engine.sh("ls /sys/class/net", "--net-host")


@check("ctr")
def namespace_by_path(engine: Ctr) -> None:
    subprocess.run(["ip", "netns", "add", "nutns"], check=True)
    try:
        subprocess.run(["ip", "-n", "nutns", "link", "add", "nut0", "type", "bridge"], check=True)
        assert "nut0" in engine.sh("ls /sys/class/net", "--with-ns", "network:/run/netns/nutns")
    finally:
        subprocess.run(["ip", "netns", "delete", "nutns"], check=True)


@check("ctr")
def privileged(engine: Ctr) -> None:
    assert engine.sh("mount -t tmpfs t /tmp && echo mounted", "--privileged") == "mounted"


@check("ctr")
def capabilities(engine: Ctr) -> None:
    text = engine.sh("grep CapEff /proc/self/status", "--cap-add", "CAP_SYS_ADMIN", "--cap-drop", "CAP_CHOWN")
    value = int(text.split()[1], 16)
    assert value >> 21 & 1
    assert not value & 1


@check("ctr")
def no_new_privileges(engine: Ctr) -> None:
    assert engine.sh("grep NoNewPrivs /proc/self/status") == "NoNewPrivs:\t1"


@check("ctr")
def seccomp_default(engine: Ctr) -> None:
    assert engine.sh("grep Seccomp: /proc/self/status", "--seccomp") == "Seccomp:\t2"


@check("ctr", quick=True)
def seccomp_profile(engine: Ctr) -> None:
    path = engine.work / "seccomp.json"
    path.write_text(json.dumps(PROFILE))
    text = engine.sh("mkdir /x 2>&1 || true", "--seccomp", "--seccomp-profile", str(path))
    assert "ross-device link" in text


@check("ctr")
def device(engine: Ctr) -> None:
    assert engine.sh("exec 3<>/dev/fuse && echo opened", "--device", "/dev/fuse") == "opened"


@check("ctr", quick=True)
def limits(engine: Ctr) -> None:
    name = engine.start("--memory-limit", str(64 << 20), "--cpus", "0.5")
    pid = engine.pid(name)
    assert engine.cgroup(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert engine.cgroup(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"


@check("ctr")
def cgroup_path(engine: Ctr) -> None:
    name = engine.start("--cgroup", "/nutgroup/one")
    assert "/nutgroup/one" in Path(f"/proc/{engine.pid(name)}/cgroup").read_text()


@check("ctr")
def user_namespace(engine: Ctr) -> None:
    """ctr maps one range; the snapshot is made for it."""
    options = ["--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"]
    expect(r"0\s+100000\s+65536", engine.sh("cat /proc/self/uid_map", *options))


@check("ctr")
def config_file(engine: Ctr) -> None:
    """A config.json of ours, as it is."""
    (engine.work / "config.json").unlink(missing_ok=True)
    subprocess.run([engine.runtime, "spec"], check=True, cwd=engine.work)
    config = json.loads((engine.work / "config.json").read_text())
    config["process"].update(terminal=False, args=["hostname"])
    config["root"] = {"path": str(engine.work / "rootfs"), "readonly": True}
    config["hostname"] = "nutshell"
    path = engine.work / "config.json"
    path.write_text(json.dumps(config))
    assert engine.out(*engine.options(), "--rm", "--config", str(path), engine.new_name()) == "nutshell"


@check("ctr")
def rootfs_directory(engine: Ctr) -> None:
    args = [*engine.options(), "--rm", "--env", "PATH=/bin", "--rootfs", str(engine.work / "rootfs"), engine.new_name()]
    assert engine.out(*args, "cat", "/etc/index.html") == "hello from the box"


@check("ctr")
def pid_file(engine: Ctr) -> None:
    path = engine.work / "ctr.pid"
    name = engine.start("--pid-file", str(path))
    assert int(path.read_text()) == engine.pid(name)


# -- tasks -----------------------------------------------------------------------------------------


@check("ctr", quick=True)
def life(engine: Ctr) -> None:
    """create, start, kill, delete, one by one; the runtime is found under the name runc."""
    name = engine.create("sleep", "1000")
    engine("task", "start", "-d", name)
    assert engine.status(name) == "RUNNING"
    engine("task", "kill", name)
    engine("task", "kill", "-s", "KILL", name, code=None)
    eventually(lambda: engine.status(name) == "STOPPED", "the end")
    engine("task", "delete", name, code=None)
    assert engine.status(name) == ""
    engine("containers", "delete", name)


@check("ctr")
def start_again(engine: Ctr) -> None:
    name = engine.start(script="exit 3")
    eventually(lambda: engine.status(name) == "STOPPED", "the end")
    assert "exit code 3" in engine("task", "delete", name).err
    assert engine("task", "start", name, code=None).code == 3


@check("ctr")
def kill_signal(engine: Ctr) -> None:
    name = engine.start(script="trap 'exit 7' USR1; touch /ready; while :; do sleep 0.05; done")
    eventually(lambda: engine.exec(name, "test", "-e", "/ready", code=None).code == 0, "the handler")
    engine("task", "kill", "-s", "USR1", name)
    eventually(lambda: engine.status(name) == "STOPPED", "the end")
    assert "exit code 7" in engine("task", "delete", name).err


@check("ctr")
def kill_all(engine: Ctr) -> None:
    name = engine.start("--net-host", script="sleep 776 & exec sleep 776")
    engine("task", "kill", "-a", "-s", "KILL", name)
    eventually(lambda: "sleep 776" not in subprocess.getoutput("ps ax"), "the end of both")


@check("ctr")
def kill_stopped(engine: Ctr) -> None:
    name = engine.start(script="true")
    eventually(lambda: engine.status(name) == "STOPPED", "the end")
    assert "not found" in engine("task", "kill", name, code=None).err


@check("ctr")
def delete_running(engine: Ctr) -> None:
    name = engine.start()
    assert engine("task", "delete", name, code=None).code != 0
    engine("task", "delete", "-f", name, code=None)
    assert engine.status(name) == ""


@check("ctr", quick=True)
def exec_output(engine: Ctr) -> None:
    name = engine.start()
    result = engine.said(name, "echo out; echo err >&2; exit 5", code=5)
    assert (result.out, result.err) == ("out\n", "err\n")


@check("ctr")
def exec_options(engine: Ctr) -> None:
    name = engine.start()
    result = engine.said(name, "id -u; pwd", "--user", "1000", "--cwd", "/etc")
    assert result.out == "1000\n/etc\n"


@check("ctr")
def exec_terminal(engine: Ctr) -> None:
    name = engine.start()
    script = "tty; read x; echo got $x; exit 4"
    with engine.terminal("task", "exec", "-t", "--exec-id", "pty", name, "sh", "-c", script) as pty:
        pty.read("/dev/pts/0")
        pty.type("nut\n")
        pty.read("got nut")
        assert pty.wait() == 4


@check("ctr")
def exec_detached(engine: Ctr) -> None:
    name = engine.start()
    engine.exec(name, "sh", "-c", "echo x >/made; exec sleep 1000", options=("-d",))
    eventually(lambda: engine.exec(name, "test", "-e", "/made", code=None).code == 0, "what exec -d made")


@check("ctr")
def exec_not_found(engine: Ctr) -> None:
    name = engine.start()
    assert "not found in $PATH" in engine.exec(name, "nosuch", code=1).err


@check("ctr", quick=True)
def pause(engine: Ctr) -> None:
    name = engine.start()
    engine("task", "pause", name)
    assert engine.status(name) == "PAUSED"
    engine("task", "resume", name)
    assert engine.status(name) == "RUNNING"
    assert engine.said(name, "echo hi").out == "hi\n"


@check("ctr")
def processes(engine: Ctr) -> None:
    """task ps: the runtime's ps --format json."""
    name = engine.start(script="sleep 777 & sleep 777 & exec sleep 777")
    eventually(lambda: len(engine.out("task", "ps", name).splitlines()) == 4, "three processes")


@check("ctr")
def metrics(engine: Ctr) -> None:
    all_mounted()
    name = engine.start()
    shown = engine.out("task", "metrics", name)
    assert re.search(r"pids\.current\s+1\b", shown), shown
    assert re.search(r"memory\.usage(_in_bytes)?\s+[1-9]|memory\.usage_in_bytes", shown), shown


@check("ctr")
def attach(engine: Ctr) -> None:
    name = engine.create("sh")
    with engine.background("task", "start", name) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write("echo nut\n")
        client.stdin.flush()
        assert client.stdout.readline() == "nut\n"
        client.stdin.write("exit\n")
        client.stdin.flush()
        assert client.wait(60) == 0


@check("ctr")
def oom(engine: Ctr) -> None:
    all_mounted()
    with engine.background("events") as events:
        assert events.stdout is not None
        engine.run("--memory-limit", str(16 << 20), argv=["probe", "eat", "200"], code=137)
        for line in events.stdout:
            if "/tasks/oom" in line:
                return
    raise AssertionError("no OOM event")


@check("ctr")
def events_of_a_task(engine: Ctr) -> None:
    with engine.background("events") as events:
        assert events.stdout is not None
        engine.run(argv=["true"])
        wanted = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
        for line in events.stdout:
            if wanted[0] in line:
                wanted.pop(0)
            if not wanted:
                return
    raise AssertionError(f"missing: {wanted}")


@check("ctr")
def daemon_restart(engine: Ctr) -> None:
    """Containers outlive containerd, and the next one knows them."""
    name = engine.start()
    daemon = engine.daemons.pop()
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    engine.serve()
    assert engine.status(name) == "RUNNING"
    assert engine.said(name, "echo hi").out == "hi\n"


@check("ctr")
def many_at_once(engine: Ctr) -> None:
    argv = [*engine.options(), "--rm", f"{IMAGE}:latest"]
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(8):
            clients.append(
                stack.enter_context(engine.background(*argv, engine.new_name(), "sh", "-c", HELD, "echo hi"))
            )
        for client in clients:
            assert up_to_mark(client.stdout) == f"hi\n{MARK}\n"
            go_on(client)
        for client in clients:
            assert client.wait(60) == 0


@check("ctr")
def checkpoint(engine: Ctr) -> None:
    if not shutil.which("criu"):
        raise Skip("no criu here")
    if subprocess.run(["criu", "check"], capture_output=True).returncode:
        raise Skip("criu check: this criu does not run on this kernel")
    name = engine.start()
    engine("containers", "checkpoint", "--task", name, "localhost/checkpoint:1")
    engine("images", "rm", "localhost/checkpoint:1")


@check("ctr")
def nothing_left(engine: Ctr) -> None:
    """No state, no cgroup, no bundle of what has ended."""
    engine.run(argv=["true"])
    for pattern in (
        "run/containerd/runc/default/walnut*",
        "run/containerd/io.containerd.runtime.v2.task/default/walnut*",
        "sys/fs/cgroup/*/default/walnut*",
    ):
        eventually(lambda pattern=pattern: not list(Path("/").glob(pattern)), f"the end of {pattern}")


@check("ctr")
def checkpoint_reaches_the_runtime(engine: Ctr) -> None:
    """Without a criu that works the runtime's own words come back, and the container runs on."""
    if subprocess.run(["criu", "check"], capture_output=True).returncode == 0 if shutil.which("criu") else False:
        raise Skip("criu works here")
    name = engine.start()
    result = engine("containers", "checkpoint", "--task", name, "localhost/checkpoint:2", code=None)
    assert result.code != 0
    assert "criu" in result.err
    assert engine.status(name) == "RUNNING"
