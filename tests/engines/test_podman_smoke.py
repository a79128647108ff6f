"""Debian's podman on the runtime, end to end: run, run -d, exec, logs, stop, rm (ENGINE-CONTRACT 1 and 2)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.harness import (
    PREFIX,
    RUNTIME,
    Result,
    Template,
    children,
    pyoci_only,
    remove_cgroups,
    umount,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.harness import Host

pytestmark = pytest.mark.skipif(not shutil.which("podman"), reason="no podman here")

# No systemd, no journal; root without CAP_SYS_RESOURCE may not raise limits (ENGINE-CONTRACT 1).
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
log_driver = "k8s-file"
netns = "none"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
{lists}
"""


class Podman:
    """podman with a store, a run root and a configuration of its own."""

    def __init__(self, directory: Path, conf: str) -> None:
        self.directory = directory
        self.conf = directory / "containers.conf"
        self.conf.write_text(conf)
        self.runtime = shutil.which(RUNTIME[0]) or RUNTIME[0]
        self.env = dict(os.environ, CONTAINERS_CONF=str(self.conf), TMPDIR=str(directory))
        self.number = 0

    def __call__(self, *args: str, check: bool = True, **options: Any) -> Result:
        command = ["podman", "--root", str(self.directory / "root"), "--runroot", str(self.directory / "run")]
        command += ["--tmpdir", str(self.directory / "tmp"), "--runtime", self.runtime, *args]
        done = subprocess.run(
            command,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            check=False,
            **options,
        )
        if check:
            assert done.returncode == 0, f"podman {' '.join(args)}: {done.stderr}"
        return Result(done.returncode, done.stdout, done.stderr)

    def run(self, *args: str, check: bool = True) -> Result:
        """podman run --rm of the image, in cgroups that bear our name."""
        return self("run", "--rm", f"--cgroup-parent=/{PREFIX}podman", *args, check=check)

    def start(self, *args: str) -> str:
        """podman run -d; the name."""
        self.number += 1
        name = f"walnut{self.number}"
        self("run", "-d", "--name", name, f"--cgroup-parent=/{PREFIX}podman", *args)
        return name


@pytest.fixture(scope="module")
def store(workshop: Path) -> Iterator[Path]:
    """A directory with an imported busybox image."""
    directory = Path(tempfile.mkdtemp(dir=workshop, prefix="podman"))
    template = Template(directory / "template")
    template.copy_to(directory / "rootfs")
    archive = directory / "image.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(directory / "rootfs", arcname=".")
    podman = Podman(directory, CONTAINERS_CONF.format(lists=""))
    podman("import", str(archive), "localhost/busybox")
    yield directory
    podman("rm", "--all", "--force", "--time", "0")
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed([point for point in mounted if point.startswith(str(directory))]):
        umount(point)
    remove_cgroups(PREFIX + "podman")
    shutil.rmtree(directory)


@pytest.fixture
def podman(store: Path, host: Host) -> Iterator[Podman]:
    """podman; after the test nothing but its store and the parent cgroup may be there."""
    made = Podman(store, CONTAINERS_CONF.format(lists=""))
    yield made
    made("rm", "--all", "--force", "--time", "0")
    until(lambda: not children(), "the end of conmon and of what it runs")
    remove_cgroups(PREFIX + "podman")
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        point = line.split()[4]
        if point.startswith(str(store)) and point not in host.mounts:
            umount(point)


IMAGE = "localhost/busybox"


def test_run(podman: Podman) -> None:
    assert podman.run(IMAGE, "echo", "hello").out == "hello\n"


def test_run_code(podman: Podman) -> None:
    assert podman.run(IMAGE, "sh", "-c", "exit 42", check=False).code == 42


@pytest.mark.parametrize(("command", "code"), [("nosuch", 127), ("/bin/nosuch", 127), ("/etc/notexec", 126)])
def test_run_what_cannot_be_run(podman: Podman, command: str, code: int) -> None:
    """ENGINE-CONTRACT 2.3: 127 and 126 come from the words of create's error."""
    result = podman.run(IMAGE, command, check=False)
    assert result.code == code
    assert command in result.err


def test_run_input(podman: Podman) -> None:
    assert podman.run("--interactive", IMAGE, "cat").out == ""


def test_detached_life(podman: Podman) -> None:
    """run -d, ps, exec, logs, stop, rm."""
    name = podman.start(IMAGE, "sh", "-c", "trap 'echo bye; exit 5' TERM; echo hello; while :; do sleep 0.1; done")
    assert podman("inspect", "--format", "{{.State.Status}}", name).out == "running\n"
    assert podman("ps", "--format", "{{.Names}}").out.split() == [name]
    assert podman("exec", name, "echo", "inside").out == "inside\n"
    assert podman("exec", name, "sh", "-c", "exit 7", check=False).code == 7
    assert podman("exec", "--user", "1000", name, "id", "-u").out == "1000\n"
    assert podman("exec", "--workdir", "/etc", "--env", "A=b", name, "sh", "-c", "pwd; echo $A").out == "/etc\nb\n"
    podman("stop", "--time", "5", name)
    assert podman("logs", name).out == "hello\nbye\n"
    assert podman("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name).out.strip() == "exited 5"
    podman("rm", name)
    assert podman("ps", "--all", "--quiet").out == ""


def test_exec_of_what_is_not_there(podman: Podman) -> None:
    name = podman.start(IMAGE, "sleep", "100")
    assert podman("exec", name, "nosuch", check=False).code == 127
    assert podman("exec", name, "/etc/notexec", check=False).code == 126


def test_restart_and_kill(podman: Podman) -> None:
    name = podman.start(IMAGE, "sleep", "100")
    podman("restart", "--time", "0", name)
    assert podman("exec", name, "echo", "again").out == "again\n"
    podman("kill", "--signal", "KILL", name)
    assert podman("wait", name).out.strip() == "137"
    podman("start", name)
    podman("rm", "--force", "--time", "0", name)


def test_created_container_is_removed(podman: Podman) -> None:
    """create only, then rm."""
    podman("create", "--name", "only", IMAGE, "true")
    podman("init", "only")
    podman("rm", "--force", "only")


def test_terminal(podman: Podman) -> None:
    """run -t: conmon takes the console of create."""
    assert podman.run("--tty", IMAGE, "tty").out == "/dev/pts/0\n"
    name = podman.start(IMAGE, "sleep", "100")
    assert "/dev/pts/0" in podman("exec", "--tty", name, "tty").out


def test_features_of_the_config(podman: Podman) -> None:
    """Limits, users, capabilities, read-only root, tmpfs, volumes, hostname, sysctl: what podman writes runs."""
    volume = podman.directory / "volume"
    volume.mkdir()
    (volume / "file").write_text("volume\n")
    shown = podman.run(
        *("--memory", "64m", "--pids-limit", "77", "--cpus", "0.5", "--user", "1000:1000"),
        *("--cap-drop", "all", "--security-opt", "no-new-privileges", "--read-only", "--tmpfs", "/t:size=1m"),
        *(
            "--hostname",
            "walnut",
            "--sysctl",
            "kernel.msgmax=9000",
            "--volume",
            f"{volume}:/v:ro",
            "--oom-score-adj",
            "500",
        ),
        IMAGE,
        "sh",
        "-c",
        "id -u; hostname; cat /proc/sys/kernel/msgmax /v/file /proc/self/oom_score_adj; touch /x /t/x 2>&1; ls /t",
    ).out
    assert shown.splitlines() == ["1000", "walnut", "9000", "volume", "500", "touch: /x: Read-only file system", "x"]
    shutil.rmtree(volume)


@pytest.mark.parametrize(
    "options", [["--pid=host"], ["--network=host"], ["--ipc=host"], ["--uts=host"], ["--privileged"]]
)
def test_namespaces_of_the_host(podman: Podman, options: list[str]) -> None:
    assert podman.run(*options, IMAGE, "echo", "fine").out == "fine\n"


def test_user_namespace(podman: Podman) -> None:
    shown = podman.run("--uidmap", "0:100000:5000", "--gidmap", "0:100000:5000", IMAGE, "cat", "/proc/self/uid_map").out
    assert shown.split() == ["0", "100000", "5000"]


def test_stop_without_pid_namespace(podman: Podman) -> None:
    """kill --all: the whole cgroup."""
    name = podman.start("--pid=host", IMAGE, "sh", "-c", "sleep 100 & sleep 100")
    podman("stop", "--time", "1", name)
    podman("rm", name)


@pyoci_only("is in podman's lists already")
def test_json_log_of_podman(store: Path, podman: Podman) -> None:
    """With the drop-in that names the runtime, podman reads the error from the JSON log."""
    name = Path(podman.runtime).name
    lists = f'runtime_supports_json = ["{name}"]\nruntime_supports_nocgroup = ["{name}"]'
    listed = Podman(store, CONTAINERS_CONF.format(lists=lists))
    result = listed.run(IMAGE, "nosuch", check=False)
    assert result.code == 127
    assert "executable file not found" in result.err
    assert listed("run", "--rm", "--cgroups=disabled", IMAGE, "echo", "fine").out == "fine\n"
