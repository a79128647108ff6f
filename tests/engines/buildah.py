"""buildah with OCI isolation: it calls the runtime itself, without conmon."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.engines.lab import PROFILE, Engine, check, expect

BOX = "localhost/box"


class Buildah(Engine):
    """buildah with the system's paths, which are the sandbox's."""

    name = "buildah"
    needs = ("buildah",)

    def __init__(self, work: Path, runtime: str) -> None:
        super().__init__(work, runtime)
        self.working = ""

    def command(self) -> list[str]:
        return ["env", f"BUILDAH_RUNTIME={self.runtime}", "BUILDAH_ISOLATION=oci", "buildah"]

    def begin(self) -> None:
        # Root without CAP_SYS_RESOURCE may not raise limits.
        conf = '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]\n'
        Path("/etc/containers/containers.conf").write_text(conf + '[engine]\ncgroup_manager = "cgroupfs"\n')
        context = self.work / "base"
        context.mkdir()
        shutil.copy(self.image, context / "image.tar")
        (context / "Containerfile").write_text('FROM scratch\nADD image.tar /\nENV PATH=/bin\nCMD ["/bin/sh"]\n')
        self("bud", "-t", BOX, str(context))
        self.working = self.out("from", BOX)

    def run(self, *options: str, argv: list[str], **more: Any) -> Any:
        """buildah run in the working container."""
        return self("run", *options, self.working, *argv, **more)

    def sh(self, script: str, *options: str, **more: Any) -> str:
        return str(self.run(*options, argv=["sh", "-c", script], **more).out).strip()

    def build(self, name: str, text: str, *options: str, **more: Any) -> Any:
        """bud of a Containerfile."""
        context = self.work / f"context-{name}"
        context.mkdir(exist_ok=True)
        (context / "Containerfile").write_text(text)
        (context / "nut").write_text("nut\n")
        return self("bud", "-t", f"localhost/{name}", *options, str(context), **more)


@check("buildah", quick=True)
def run_output(engine: Buildah) -> None:
    result = engine.run(argv=["sh", "-c", "echo out; echo err >&2"])
    assert (result.out, result.err) == ("out\n", "err\n")


@check("buildah", quick=True)
def run_code(engine: Buildah) -> None:
    result = engine.run(argv=["sh", "-c", "exit 42"], code=42)
    assert "42" in result.err


@check("buildah")
def run_input(engine: Buildah) -> None:
    assert engine.run(argv=["wc", "-c"], input="walnut" * 20000).out.strip() == "120000"


@check("buildah", quick=True)
def run_terminal(engine: Buildah) -> None:
    script = "tty; read x; echo got $x"
    with engine.terminal("run", "-t", engine.working, "sh", "-c", script) as pty:
        pty.read("/dev/pts/0")
        pty.type("nut\n")
        pty.read("got nut")
        assert pty.wait() == 0


@check("buildah")
def run_not_found(engine: Buildah) -> None:
    assert "not found in $PATH" in engine.run(argv=["nosuch"], code=None).err


@check("buildah")
def run_not_executable(engine: Buildah) -> None:
    assert "permission denied" in engine.run(argv=["/etc/notexec"], code=None).err.lower()


@check("buildah")
def run_user(engine: Buildah) -> None:
    expect("1000\n1000", engine.sh("id -u; id -g", "--user", "walnut"))


@check("buildah")
def run_env_and_workdir(engine: Buildah) -> None:
    expect("b\n/etc", engine.sh("echo $A; pwd", "--env", "A=b", "--workingdir", "/etc"))


@check("buildah", quick=True)
def run_volume(engine: Buildah) -> None:
    expect("walnut\n.*Read-only.*", engine.sh("cat /v/file; touch /v/x 2>&1 || true", "-v", f"{engine.shared}:/v:ro"))


@check("buildah")
def run_mount_tmpfs(engine: Buildah) -> None:
    assert "tmpfs" in engine.sh("grep ' /t ' /proc/mounts", "--mount", "type=tmpfs,destination=/t")


@check("buildah")
def run_capabilities(engine: Buildah) -> None:
    text = engine.sh("grep CapEff /proc/self/status", "--cap-add", "CAP_SYS_ADMIN", "--cap-drop", "CAP_CHOWN")
    value = int(text.split()[1], 16)
    assert value >> 21 & 1
    assert not value & 1


@check("buildah")
def run_hostname(engine: Buildah) -> None:
    assert engine.sh("hostname", "--hostname", "nutshell") == "nutshell"


@check("buildah")
def run_network_none(engine: Buildah) -> None:
    assert engine.sh("ls /sys/class/net", "--network", "none") == "lo"


@check("buildah")
def run_network_host(engine: Buildah) -> None:
    assert "outside0" in engine.sh("ls /sys/class/net", "--network", "host")


@check("buildah")
def run_network_own(engine: Buildah) -> None:
    assert "eth0" in engine.sh("ls /sys/class/net", "--network", "private")


@check("buildah")
def run_host_namespaces(engine: Buildah) -> None:
    assert engine.sh("echo fine", "--pid", "host", "--ipc", "host", "--uts", "host") == "fine"


@check("buildah")
def run_runtime_flag(engine: Buildah) -> None:
    log = engine.work / "flag.log"
    assert engine.sh("echo hi", "--runtime-flag", "debug", "--runtime-flag", f"log={log}") == "hi"
    assert log.exists()


@check("buildah")
def run_no_pivot(engine: Buildah) -> None:
    assert engine.sh("echo hi", "--no-pivot") == "hi"


@check("buildah")
def run_seccomp(engine: Buildah) -> None:
    assert engine.sh("grep Seccomp: /proc/self/status") == "Seccomp:\t2"


@check("buildah")
def run_rootfs_stays(engine: Buildah) -> None:
    engine.sh("echo nut >/made")
    assert engine.sh("cat /made; rm /made") == "nut"


@check("buildah", quick=True)
def build(engine: Buildah) -> None:
    text = "FROM localhost/box\nARG A=b\nRUN echo $A >/made\nUSER walnut\nRUN id -u >/tmp/who\n"
    text += "COPY nut /got\nRUN cat /got\n"
    result = engine.build("built", text, "--build-arg", "A=c")
    assert "nut" in result.out
    name = engine.out("from", "localhost/built")
    expect("c\n1000", engine.out("run", name, "cat", "/made", "/tmp/who"))
    engine("rm", name)


@check("buildah")
def build_failing(engine: Buildah) -> None:
    result = engine.build("failing", "FROM localhost/box\nRUN exit 7\n", code=None)
    assert result.code != 0
    assert "exit status 7" in result.err


@check("buildah")
def build_stages(engine: Buildah) -> None:
    text = (
        "FROM localhost/box AS one\nRUN echo nut >/made\nFROM localhost/box\nCOPY --from=one /made /got\nRUN cat /got\n"
    )
    assert "nut" in engine.build("staged", text).out


@check("buildah")
def build_layers(engine: Buildah) -> None:
    text = "FROM localhost/box\nRUN echo one >/one\nRUN echo two >/two\n"
    engine.build("layered", text, "--layers")
    assert "Using cache" in engine.build("layered", text, "--layers").out


@check("buildah")
def build_limits(engine: Buildah) -> None:
    text = "FROM localhost/box\nRUN ulimit -n | grep -x 777\nRUN df -m /dev/shm | grep -w 3\n"
    engine.build("limits", text, "--ulimit", "nofile=777:777", "--memory", "64m", "--shm-size", "3m")


@check("buildah")
def build_memory(engine: Buildah) -> None:
    """A step that eats more than the limit is killed."""
    result = engine.build("eating", "FROM localhost/box\nRUN probe eat 200\n", "--memory", "32m", code=None)
    assert result.code != 0


@check("buildah")
def build_seccomp_profile(engine: Buildah) -> None:
    path = engine.work / "profile.json"
    path.write_text(json.dumps(PROFILE))
    text = "FROM localhost/box\nRUN mkdir /x 2>&1 | grep -i cross-device\n"
    engine.build("denied", text, "--security-opt", f"seccomp={path}")


@check("buildah")
def build_secret(engine: Buildah) -> None:
    path = engine.work / "secret"
    path.write_text("kernel")
    text = "FROM localhost/box\nRUN --mount=type=secret,id=nut cat /run/secrets/nut\n"
    assert "kernel" in engine.build("secret", text, "--secret", f"id=nut,src={path}").out


@check("buildah")
def build_cache_mount(engine: Buildah) -> None:
    mount = "--mount=type=cache,target=/c"
    text = f"FROM localhost/box\nRUN {mount} echo nut >/c/x\nRUN {mount} cat /c/x\n"
    assert "nut" in engine.build("cached", text).out


@check("buildah")
def many_at_once(engine: Buildah) -> None:
    argv = [*engine.command(), "run", engine.working, "echo", "hi"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = [subprocess.Popen(argv, text=True, **pipes) for _ in range(4)]
    for process in running:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out) == (0, "hi\n"), err


@check("buildah")
def nothing_left(engine: Buildah) -> None:
    places = [Path("/run", engine.flavour), Path("/run/user/0", engine.flavour)]

    def states() -> set[str]:
        return {str(path) for place in places if place.is_dir() for path in place.iterdir() if path.name[0] != "."}

    before = states()
    engine.sh("true")
    assert states() <= before, states()
