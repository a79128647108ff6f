"""Checks of podman's and docker's command line where it is the same: containers that live longer than one command."""

from __future__ import annotations

import io
import json
import shutil
import signal
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.engines.lab import IMAGE, Skip, all_mounted, check, eventually, expect, fetch, free_port

if TYPE_CHECKING:
    from tests.engines.lab import Cli

ALL = "podman rootless docker"
ROOT = "podman docker"
TRAP = "trap 'echo caught; exit 5' TERM USR1; echo ready; while :; do sleep 0.05; done"


# -- run ------------------------------------------------------------------------------------


@check(ALL, quick=True)
def run_output(engine: Cli) -> None:
    result = engine.sh("", "echo out; echo err >&2")
    assert (result.out, result.err) == ("out\n", "err\n")


@check(ALL, quick=True)
def run_code(engine: Cli) -> None:
    engine.sh("", "exit 42", code=42)


@check(ALL)
def run_killed(engine: Cli) -> None:
    """A program that a signal ended: 128 + its number (it is not pid 1, which ignores what it does not catch)."""
    engine.sh("", "sh -c 'kill -9 $$'; exit $?", code=137)


@check(ALL)
def run_input(engine: Cli) -> None:
    assert engine.run("-i", IMAGE, "sh", "-c", "wc -c", input="walnut" * 20000).out.strip() == "120000"


@check(ALL)
def run_bad_interpreter(engine: Cli) -> None:
    """What only execve finds out ends the container, not the runtime."""
    result = engine.run(IMAGE, "/bin/badinterpreter", code=None)
    assert result.code in (1, 127), result
    assert "no such file or directory" in result.err.lower()


@check(ALL, quick=True)
def run_terminal(engine: Cli) -> None:
    with engine.terminal(
        "run", "--rm", "-it", IMAGE, "sh", "-c", "tty; read x; echo got $x", rows=30, columns=90
    ) as pty:
        pty.read("/dev/pts/0")
        pty.type("nut\n")
        pty.read("got nut")
        assert pty.wait() == 0


@check(ALL)
def run_terminal_resize(engine: Cli) -> None:
    script = "echo ready; until [ \"$(stty size)\" = '33 99' ]; do sleep 0.05; done; echo resized; exit 3"
    with engine.terminal("run", "--rm", "-it", IMAGE, "sh", "-c", script) as pty:
        pty.read("ready")
        pty.resize_until(33, 99, "resized")
        assert pty.wait() == 3


@check(ALL)
def run_interrupted(engine: Cli) -> None:
    """Signals of the client go to the container (sig-proxy)."""
    with engine.background("run", "--rm", IMAGE, "sh", "-c", TRAP) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        time.sleep(1)  # podman passes signals on only a while after it shows output, and nothing tells when
        client.send_signal(signal.SIGTERM)
        assert client.stdout.read() == "caught\n"
        assert client.wait(60) == 5


@check(ALL)
def run_name_taken(engine: Cli) -> None:
    result = engine.run("--name", engine.box(), IMAGE, "true", code=125)
    assert "already in use" in result.err


@check(ALL)
def run_cidfile_label(engine: Cli) -> None:
    path = engine.shared / "cid"
    engine.run("--cidfile", str(path), "--label", "a=b", IMAGE, "true")
    assert len(path.read_text()) == 64
    path.unlink()


# -- detached -------------------------------------------------------------------------------


@check(ALL, quick=True)
def life(engine: Cli) -> None:
    """create, start, ps, stop with a handler, logs, exit code, start again, rm."""
    name = engine.new_name()
    engine("create", "--name", name, IMAGE, "sh", "-c", TRAP)
    assert engine.status(name) == "created"
    engine("start", name)
    assert engine.status(name) == "running"
    assert name in engine.out("ps", "--format", "{{.Names}}").split()
    engine.logs(name, "ready")
    engine("stop", "-t", "10", name)
    assert (engine.status(name), engine.field(name, "State.ExitCode")) == ("exited", "5")
    expect("ready\ncaught", engine.logs(name, "caught"))
    engine("start", name)
    assert engine.status(name) == "running"
    engine("kill", name)
    engine("wait", name)
    engine("rm", name)
    assert engine("inspect", name, code=None).code != 0


@check(ALL)
def logs_both(engine: Cli) -> None:
    name = engine.start(script="echo out; echo err >&2")
    engine("wait", name)
    result = engine("logs", name)
    assert (result.out, result.err) == ("out\n", "err\n")


@check(ALL)
def logs_follow(engine: Cli) -> None:
    name = engine.start(script="echo one; until [ -e /go ]; do sleep 0.05; done; echo two")
    with engine.background("logs", "-f", name) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "one\n"
        engine("exec", name, "touch", "/go")
        assert client.stdout.readline() == "two\n"


@check(ALL)
def stop_timeout(engine: Cli) -> None:
    name = engine.start(script="trap '' TERM; while :; do sleep 0.05; done")
    engine("stop", "-t", "1", name)
    assert engine.field(name, "State.ExitCode") == "137"


@check(ALL)
def stop_signal(engine: Cli) -> None:
    name = engine.start("--stop-signal USR1", "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done")
    engine.logs(name, "ready")
    engine("stop", "-t", "10", name)
    assert engine.field(name, "State.ExitCode") == "9"


@check(ALL, quick=True)
def kill_signal(engine: Cli) -> None:
    name = engine.start(script="trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done")
    engine.logs(name, "ready")
    engine("kill", "-s", "USR1", name)
    engine.logs(name, "usr1")
    engine("kill", "-s", "9", name)
    assert engine.out("wait", name) == "137"


@check(ALL)
def kill_stopped(engine: Cli) -> None:
    name = engine.start(script="true")
    engine("wait", name)
    assert engine("kill", name, code=None).code != 0


@check(ALL)
def restart(engine: Cli) -> None:
    name = engine.start(script="echo started; exec sleep 1000")
    engine("restart", "-t", "0", name)
    eventually(lambda: engine("logs", name).out == "started\nstarted\n", "the second start")
    assert engine.out("exec", name, "echo", "again") == "again"


@check(ALL)
def start_attached(engine: Cli) -> None:
    name = engine.new_name()
    engine("create", "--name", name, IMAGE, "sh", "-c", "echo hello; exit 6")
    assert engine("start", "-a", name, code=6).out == "hello\n"


@check(ALL)
def restart_policy(engine: Cli) -> None:
    name = engine.start("--restart on-failure:2", "echo run; exit 3")
    eventually(lambda: engine("logs", name).out == "run\n" * 3, "three runs")
    eventually(lambda: engine.status(name) == "exited", "the end")
    assert engine.field(name, "RestartCount") == "2"


@check(ALL)
def rm_running(engine: Cli) -> None:
    name = engine.start()
    assert engine("rm", name, code=None).code != 0
    pid = engine.pid(name)
    engine(*engine.remove, name)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the end of its process")


@check(ALL)
def rm_created(engine: Cli) -> None:
    name = engine.new_name()
    engine("create", "--name", name, IMAGE, "true")
    engine("rm", name)


@check(ALL)
def rename(engine: Cli) -> None:
    name, other = engine.start(), engine.new_name()
    engine("rename", name, other)
    assert engine.out("exec", other, "echo", "hi") == "hi"


# -- exec, attach ---------------------------------------------------------------------------


@check(ALL, quick=True)
def exec_output(engine: Cli) -> None:
    result = engine("exec", engine.box(), "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert (result.out, result.err) == ("out\n", "err\n")


@check(ALL)
def exec_input(engine: Cli) -> None:
    assert engine("exec", "-i", engine.box(), "sh", "-c", "wc -c", input="walnut" * 20000).out.strip() == "120000"


@check(ALL)
def exec_inherits(engine: Cli) -> None:
    expect("yes\n/tmp", engine.out("exec", engine.box(), "sh", "-c", "echo $FROM_RUN; pwd"))


@check(ALL, quick=True)
def exec_options(engine: Cli) -> None:
    options = ["-u", "walnut", "-w", "/etc", "-e", "A=b"]
    expect("1000\n/etc\nb", engine.out("exec", *options, engine.box(), "sh", "-c", "id -u; pwd; echo $A"))


@check(ALL)
def exec_not_found(engine: Cli) -> None:
    result = engine("exec", engine.box(), "nosuch", code=None)
    assert result.code in (126, 127)  # docker: 126 for both
    assert "not found in $PATH" in result.err + result.out


@check(ALL)
def exec_not_executable(engine: Cli) -> None:
    result = engine("exec", engine.box(), "/etc/notexec", code=126)
    assert "permission denied" in (result.err + result.out).lower()


@check(ALL)
def exec_detached(engine: Cli) -> None:
    name = engine.start()
    engine("exec", "-d", name, "sh", "-c", "echo x >/made; exec sleep 1000")
    eventually(lambda: engine("exec", name, "test", "-e", "/made", code=None).code == 0, "what exec -d made")


@check(ALL, quick=True)
def exec_terminal(engine: Cli) -> None:
    with engine.terminal("exec", "-it", engine.box(), "sh", "-c", "tty; read x; echo got $x; exit 4") as pty:
        pty.read("/dev/pts/")
        pty.type("nut\n")
        pty.read("got nut")
        assert pty.wait() == 4


@check(ALL)
def exec_terminal_resize(engine: Cli) -> None:
    script = "echo ready; until [ \"$(stty size)\" = '33 99' ]; do sleep 0.05; done; echo resized"
    with engine.terminal("exec", "-it", engine.box(), "sh", "-c", script) as pty:
        pty.read("ready")
        pty.resize_until(33, 99, "resized")
        assert pty.wait() == 0


@check(ALL)
def exec_limits(engine: Cli) -> None:
    """An exec process is under the container's seccomp, capabilities and namespaces."""
    script = "grep -E 'Seccomp:|CapEff|CapBnd' /proc/self/status; for n in /proc/self/ns/*; do readlink $n; done"
    of_exec = engine.out("exec", engine.box(), "sh", "-c", script)
    of_init = engine.out("exec", engine.box(), "sh", "-c", script.replace("self", "1"))
    assert of_exec == of_init


@check(ALL)
def exec_stopped(engine: Cli) -> None:
    name = engine.start(script="true")
    engine("wait", name)
    assert "running" in engine("exec", name, "true", code=None).err


@check(ALL)
def exec_ends_with_container(engine: Cli) -> None:
    name = engine.start()
    with engine.background("exec", name, "sh", "-c", "echo ready; exec sleep 1000") as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        engine("kill", name)
        assert client.wait(60) != 0


@check(ALL)
def attach(engine: Cli) -> None:
    name = engine.new_name()
    engine("run", "-d", "-i", "--name", name, IMAGE, "sh", "-c", "echo ready; read x; echo got $x; exit 8")
    engine.logs(name, "ready")
    with engine.background("attach", name) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write("nut\n")
        eventually(lambda: client.stdout.readline() == "got nut\n", "the answer")
        client.wait(60)
    assert engine.out("wait", name) == "8"


@check(ALL)
def attach_terminal_detach(engine: Cli) -> None:
    name = engine.new_name()
    engine("run", "-dit", "--name", name, IMAGE, "sh")
    with engine.terminal("attach", name) as pty:
        pty.type("echo a$((1+1))b\n")
        pty.read("a2b")
        for key in "\x10\x11":  # ctrl-p ctrl-q; podman looks for them one read each
            pty.type(key)
            time.sleep(0.3)
        pty.wait()
    assert engine.status(name) == "running"


# -- the state of a container ------------------------------------------------------------------


@check(ROOT, quick=True)
def pause(engine: Cli) -> None:
    name = engine.start(script="while :; do date +%s%N >/now; sleep 0.02; done")
    engine("pause", name)
    assert engine.status(name) == "paused"
    assert engine("exec", name, "true", code=None).code != 0
    engine("unpause", name)
    assert engine.status(name) == "running"
    assert engine.out("exec", name, "echo", "hi") == "hi"


@check(ROOT)
def pause_stop(engine: Cli) -> None:
    name = engine.start()
    engine("pause", name)
    engine(*engine.remove, name)
    assert engine("inspect", name, code=None).code != 0


@check(ALL, quick=True)
def top(engine: Cli) -> None:
    name = engine.start(script="sleep 777 & exec sleep 778")
    eventually(lambda: engine.out("top", name).count("sleep 77") == 2, "both processes")


@check(ROOT)
def stats(engine: Cli) -> None:
    if engine.name == "docker":
        all_mounted()
    shown = json.loads(engine.out("stats", "--no-stream", "--format", "{{json .}}", engine.box()))
    text = json.dumps(shown)
    assert engine.box() in text
    assert "MemUsage" in text or "mem_usage" in text


@check(ROOT, quick=True)
def memory_limit(engine: Cli) -> None:
    name = engine.start("--memory 64m")
    assert engine.cgroup(name, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)


@check(ROOT)
def cpu_limits(engine: Cli) -> None:
    name = engine.start("--cpus 0.5 --cpu-shares 512")
    assert engine.cgroup(name, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"


@check(ROOT)
def oom(engine: Cli) -> None:
    if engine.name == "docker":
        all_mounted()
    name = engine.start("--memory 16m", "probe eat 200")
    assert engine.out("wait", name) == "137"
    # podman 4.3 looks for what conmon noted in another directory than conmon's own.
    noted = engine.work / "oom"
    eventually(lambda: noted.exists() or engine.field(name, "State.OOMKilled") == "true", "OOMKilled")
    noted.unlink(missing_ok=True)


@check(ALL)
def events(engine: Cli) -> None:
    name = engine.start(script="exit 3")
    engine("wait", name)
    shown = eventually(
        lambda: (
            (
                text := engine(
                    "events", "--since", "1m", "--until", str(int(time.time()) + 1), "--filter", f"container={name}"
                ).out
            )
            and "die" in text
            and text
        ),
        "the event of its end",
    )
    assert "start" in shown


@check(ALL)
def copy_in_and_out(engine: Cli) -> None:
    name = engine.start()
    engine("cp", str(engine.shared / "file"), f"{name}:/home/walnut/nut")
    assert engine.out("exec", name, "cat", "/home/walnut/nut") == "walnut"
    data = engine("cp", f"{name}:/home/walnut/nut", "-").out
    with tarfile.open(fileobj=io.BytesIO(data.encode())) as tar:
        assert tar.getnames() == ["nut"]


@check(ALL)
def diff_commit(engine: Cli) -> None:
    name = engine.start(script="echo nut >/made")
    engine("wait", name)
    assert "A /made" in engine.out("diff", name)
    engine("commit", name, "localhost/committed")
    assert engine.out("run", "--rm", "localhost/committed", "cat", "/made") == "nut"
    engine("rmi", "localhost/committed")


@check(ALL)
def export_rootfs(engine: Cli) -> None:
    name = engine.start(script="echo nut >/made")
    engine("wait", name)
    engine("export", "-o", str(engine.shared / "export.tar"), name)
    with tarfile.open(engine.shared / "export.tar") as tar:
        assert "made" in tar.getnames()
    (engine.shared / "export.tar").unlink()


@check(ALL)
def rootfs_is_own(engine: Cli) -> None:
    engine.sh("", "touch /left && ls /left")
    assert "No such file" in engine.sh("", "ls /left 2>&1", code=1).out


# -- volumes, networks, namespaces of others ---------------------------------------------------


@check(ALL, quick=True)
def volume_named(engine: Cli) -> None:
    volume = "nuts"
    engine("volume", "create", volume)
    engine.sh(f"-v {volume}:/v", "echo one >/v/x")
    assert engine.sh(f"-v {volume}:/v:ro", "cat /v/x").out == "one\n"
    engine("volume", "rm", volume)


@check(ALL)
def volume_copies_up(engine: Cli) -> None:
    assert "passwd" in engine.sh("-v copied:/etc", "ls /etc").out
    engine("volume", "rm", "copied")


@check(ALL)
def volumes_from(engine: Cli) -> None:
    name = engine.start("-v /data", "echo nut >/data/x; exec sleep 1000")
    eventually(lambda: engine.sh(f"--volumes-from {name}", "cat /data/x", code=None).out == "nut\n", "the file")
    engine(*engine.remove, "-v", name)


@check(ALL, quick=True)
def publish(engine: Cli) -> None:
    port = free_port()
    engine.start(f"-p 127.0.0.1:{port}:80", "exec httpd -f -p 80 -h /etc")
    assert "walnut" in fetch(port)


@check(ALL)
def publish_taken(engine: Cli) -> None:
    port = free_port()
    engine.start(f"-p 127.0.0.1:{port}:80")
    assert engine.run("-p", f"127.0.0.1:{port}:80", IMAGE, "true", code=None).code != 0
    assert engine.sh("", "echo fine").out == "fine\n"


@check(ALL)
def network_container(engine: Cli) -> None:
    name = engine.start(script="exec httpd -f -p 8080 -h /etc")
    script = "until wget -q -O - http://127.0.0.1:8080/index.html; do sleep 0.05; done"
    assert engine.sh(f"--network container:{name}", script).out == "hello from the box\n"


@check(ALL)
def network_between(engine: Cli) -> None:
    """Two containers on a network of their own, by name."""
    if engine.name == "podman" and not shutil.which("/usr/lib/podman/aardvark-dns"):
        raise Skip("no aardvark-dns here")
    engine("network", "create", "nutnet")
    try:
        server = engine.start("--network nutnet", "exec httpd -f -p 80 -h /etc")
        # The resolver of a static C library does not work without its modules; nslookup's own does.
        find = f"nslookup {server} | sed -n 's/^Address: *\\([0-9.]*\\)$/\\1/p' | tail -1"
        script = f"for i in 1 2 3 4 5 6 7 8 9; do wget -q -O - http://$({find})/index.html && exit; sleep 0.3; done"
        result = engine.sh("--network nutnet", script, code=None)
        assert result.out == "hello from the box\n", result.err
    finally:
        engine(*engine.remove, *engine.made, code=None)
        engine("network", "rm", "nutnet")


@check(ROOT)
def network_connect(engine: Cli) -> None:
    engine("network", "create", "othernet")
    try:
        name = engine.start("--network bridge")
        engine("network", "connect", "othernet", name)
        assert "eth1" in engine.out("exec", name, "ls", "/sys/class/net")
        engine("network", "disconnect", "othernet", name)
        assert "eth1" not in engine.out("exec", name, "ls", "/sys/class/net")
    finally:
        engine(*engine.remove, *engine.made, code=None)
        engine("network", "rm", "othernet")


@check(ALL)
def pid_of_container(engine: Cli) -> None:
    name = engine.start(script="exec sleep 777")
    assert "sleep 777" in engine.sh(f"--pid container:{name}", "ps").out


@check(ALL)
def ipc_of_container(engine: Cli) -> None:
    name = engine.start("--ipc shareable", "touch /dev/shm/nut; exec sleep 1000")
    eventually(lambda: engine.sh(f"--ipc container:{name}", "ls /dev/shm").out == "nut\n", "the file")


# -- health, images ------------------------------------------------------------------------------


@check("podman rootless")
def healthcheck(engine: Cli) -> None:
    name = engine.start("--health-cmd 'test -e /fine' --health-retries 1 --health-interval disable")
    assert engine("healthcheck", "run", name, code=None).code == 1
    engine("exec", name, "touch", "/fine")
    engine("healthcheck", "run", name)
    assert "healthy" in engine.out("inspect", name)


CONTAINERFILE = """\
FROM localhost/box
ARG A=b
RUN echo $A >/made && id -u >>/made
USER walnut
WORKDIR /home
RUN id -u >/tmp/who && pwd >>/tmp/who
COPY nut /copied
ENV E=f
CMD ["sh", "-c", "cat /made /tmp/who /copied; echo $E"]
"""


@check(ALL, quick=True)
def build(engine: Cli) -> None:
    context = engine.shared / "context"
    context.mkdir(exist_ok=True)
    (context / "Containerfile").write_text(CONTAINERFILE)
    (context / "nut").write_text("nut\n")
    engine("build", "-q", "-t", "localhost/built", "-f", str(context / "Containerfile"), str(context))
    assert engine.out("run", "--rm", "localhost/built").split() == ["b", "0", "1000", "/home", "nut", "f"]
    engine("rmi", "localhost/built")


@check(ALL)
def build_failing(engine: Cli) -> None:
    context = engine.shared / "failing"
    context.mkdir(exist_ok=True)
    (context / "Containerfile").write_text("FROM localhost/box\nRUN exit 7\n")
    result = engine("build", "-f", str(context / "Containerfile"), str(context), code=None)
    assert result.code != 0
    assert "7" in result.err + result.out


@check(ALL)
def build_stages(engine: Cli) -> None:
    context = engine.shared / "stages"
    context.mkdir(exist_ok=True)
    text = (
        "FROM localhost/box AS one\nRUN echo nut >/made\nFROM localhost/box\nCOPY --from=one /made /got\nRUN cat /got\n"
    )
    (context / "Containerfile").write_text(text)
    engine("build", "-q", "-t", "localhost/staged", "-f", str(context / "Containerfile"), str(context))
    assert engine.out("run", "--rm", "localhost/staged", "cat", "/got") == "nut"
    engine("rmi", "localhost/staged")
