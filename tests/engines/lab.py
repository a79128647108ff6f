"""What the engines' checks share: the table of checks, the engine's command line, the image.

A check is data: an id, the engines it holds for, and a function that gets the engine.  It passes when the function
returns, is skipped when it raises Skip with a reason, and has failed otherwise.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import tarfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.integration.harness import MS_BIND, MS_SHARED, Result, Template, Terminal, mount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IMAGE = "localhost/box"
SHELL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CAP_SYS_RESOURCE = 24

# Everything is allowed but making a directory, which fails in a way nothing else does.
PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18}],  # EXDEV
}


class Skip(Exception):
    """A check that this machine or this engine cannot do; says why."""


class Check(NamedTuple):
    """One row of docs/ENGINES.md."""

    id: str
    engines: tuple[str, ...]
    function: Callable[[Any], None]
    quick: bool  # belongs to the short selection of --quick


CHECKS: list[Check] = []


def check(engines: str, quick: bool = False) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a function as the check of its name (_ reads -) for the engines named."""

    def register(function: Callable[[Any], None]) -> Callable[[Any], None]:
        add(function.__name__.replace("_", "-"), engines, function, quick)
        return function

    return register


def add(ident: str, engines: str, function: Callable[[Any], None], quick: bool = False) -> None:
    for name in engines.split():
        assert not any(ident == other.id and name in other.engines for other in CHECKS), f"two checks {ident}"
    CHECKS.append(Check(ident, tuple(engines.split()), function, quick))


def expect(pattern: str, text: str) -> None:
    """The text, without the blank around it, is what the regular expression says."""
    assert re.fullmatch(pattern, text.strip(), re.DOTALL), f"not {pattern!r}: {text.strip()!r}"


def eventually(condition: Callable[[], Any], what: str, timeout: float = 60.0) -> Any:
    """Ask until the answer is true; engines tell of many things only when asked."""
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s"
        time.sleep(0.05)
    return answer


def capable(number: int) -> bool:
    """Whether this process has a capability."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))
    return bool(int(line.split()[1], 16) >> number & 1)


def all_mounted() -> None:
    """containerd counts nothing where one of the kernel's hierarchies is not mounted, as when another program has just
    mounted one for itself.  Raises Skip."""
    listed = {line.split(":")[1] for line in Path("/proc/self/cgroup").read_text().splitlines()} - {""}
    mounted = {word for line in Path("/proc/mounts").read_text().splitlines() for word in line.split()[3].split(",")}
    if missing := sorted(name for name in listed if not set(name.split(",")) <= mounted):
        raise Skip(f"a cgroup hierarchy that another program has mounted, {missing[0]}, is not mounted here")


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def fetch(port: int, path: str = "passwd", host: str = "127.0.0.1") -> str:
    """A page of the web server in a container, as soon as it answers."""

    def get() -> str:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{host}:{port}/{path}", timeout=2) as page:
            return str(page.read().decode())
        return ""

    return str(eventually(get, f"an answer of {host}:{port}"))


def make_image(directory: Path) -> Path:
    """The root file system of the test image, as a tar file for import, and a directory beside it."""
    template = Template(directory / "template")
    root = directory / "rootfs"
    template.copy_to(root)
    for name, mode, text in (
        ("bin/badformat", 0o755, "\x00\x01not a program\n"),
        ("bin/badinterpreter", 0o755, "#!/nosuch\n"),
        ("etc/index.html", 0o644, "hello from the box\n"),
    ):
        (root / name).write_text(text)
        (root / name).chmod(mode)
    archive = directory / "image.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(root, arcname=".")
    for path in (directory, root, archive):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return archive


class Engine:
    """An engine with the runtime under test.  Subclasses say how it is started and what its command is."""

    name = ""
    needs: tuple[str, ...] = ()  # programs

    def __init__(self, work: Path, runtime: str) -> None:
        self.work = work
        self.runtime = runtime
        self.flavour = Path(runtime).name
        self.image = work / "image.tar"
        self.shared = work / "shared"  # a directory of the host that containers may have
        self.shared.mkdir()
        self.shared.chmod(0o777)
        (self.shared / "file").write_text("walnut\n")
        (self.shared / "seccomp.json").write_text(json.dumps(PROFILE))
        (work / "propagated").mkdir()
        mount(str(work / "propagated"), str(work / "propagated"), flags=MS_BIND)
        mount("none", str(work / "propagated"), flags=MS_SHARED)
        self.daemons: list[subprocess.Popen[bytes]] = []

    def command(self) -> list[str]:
        """The words before a verb."""
        raise NotImplementedError

    def begin(self) -> None:
        """Start what must run, and load the image."""

    def finish(self) -> None:
        """End the daemons; the sandbox ends everything else."""
        for daemon in reversed(self.daemons):
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)

    def after_check(self) -> None:
        """Remove what a check left."""

    def daemon(self, log: str, *argv: str, env: dict[str, str] | None = None) -> None:
        """Start a daemon; its output goes to WORK/log."""
        with (self.work / log).open("wb") as file:
            full = dict(os.environ, **(env or {}))
            self.daemons.append(
                subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=full)
            )

    def __call__(
        self, *args: str, code: int | None = 0, input: str | None = None, timeout: float = 120, **popen: Any
    ) -> Result:
        """Run one command of the engine; another exit code than that fails the check (None: any will do)."""
        argv = [*self.command(), *args]
        options: dict[str, Any] = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        done = subprocess.run(argv, capture_output=True, timeout=timeout, cwd=self.work, **options, **popen, text=True)
        if code is not None:
            said = f"{done.stderr.strip()[-600:]} {done.stdout[-200:]}"
            assert done.returncode == code, f"{shlex.join(args)} exited {done.returncode}, not {code}: {said}"
        return Result(done.returncode, done.stdout, done.stderr)

    def out(self, *args: str, **options: Any) -> str:
        """What a command prints, without the blank around it."""
        return self(*args, **options).out.strip()

    def terminal(self, *args: str, rows: int = 24, columns: int = 80) -> Terminal:
        """A command of the engine on a pty."""
        return Terminal([*self.command(), *args], rows, columns)

    @contextlib.contextmanager
    def background(self, *args: str) -> Iterator[subprocess.Popen[str]]:
        """A command of the engine with pipes, ended at the end of the context."""
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with subprocess.Popen([*self.command(), *args], **pipes, text=True, bufsize=1) as process:
            timer = threading.Timer(120, process.kill)
            timer.start()
            try:
                yield process
            finally:
                timer.cancel()
                process.terminate()


class Cli(Engine):
    """podman's and docker's command line, where it is the same."""

    remove = ("rm", "-f")

    def __init__(self, work: Path, runtime: str) -> None:
        super().__init__(work, runtime)
        self.number = 0
        self.made: list[str] = []
        self.box_name = ""

    def new_name(self) -> str:
        """A name; the container of that name is removed after the check."""
        self.number += 1
        self.made.append(f"walnut{self.number}")
        return self.made[-1]

    def run(self, *args: str, **options: Any) -> Result:
        """run --rm of the image, which is to be named by the caller."""
        return self("run", "--rm", *args, **options)

    def sh(self, options: str, script: str, **more: Any) -> Result:
        """run --rm of a shell script."""
        return self.run(*shlex.split(options), IMAGE, "sh", "-c", script, **more)

    def start(self, options: str = "", script: str = "exec sleep 1000") -> str:
        """run -d of a shell script; the container's name."""
        name = self.new_name()
        self("run", "-d", "--name", name, *shlex.split(options), IMAGE, "sh", "-c", script)
        return name

    def box(self) -> str:
        """A running container that checks share and leave as it is."""
        if not self.box_name:
            self.box_name = self.start("-e FROM_RUN=yes -w /tmp")
            self.made.remove(self.box_name)
        return self.box_name

    def field(self, name: str, key: str) -> str:
        """A field of inspect: State.Status, State.ExitCode..."""
        return self.out("inspect", "--format", "{{." + key + "}}", name)

    def status(self, name: str) -> str:
        return self.field(name, "State.Status")

    def pid(self, name: str) -> int:
        return int(self.field(name, "State.Pid"))

    def cgroup(self, name: str, controller: str, v1: str, v2: str = "") -> str:
        """The text of a cgroup file of a container."""
        for line in Path(f"/proc/{self.pid(name)}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            directory = Path("/sys/fs/cgroup") / controller
            if controller in controllers.split(",") and directory.is_dir():
                return (directory / path.lstrip("/") / v1).read_text().strip()
        path = Path(f"/proc/{self.pid(name)}/cgroup").read_text().strip().split(":", 2)[2]
        return (Path("/sys/fs/cgroup") / path.lstrip("/") / (v2 or v1)).read_text().strip()

    def logs(self, name: str, text: str) -> str:
        """The log of a container, once the text is in it."""
        return str(eventually(lambda: (log := self("logs", name).out) and text in log and log, f"{text!r} in the log"))

    def after_check(self) -> None:
        made, self.made = self.made, []
        if made:
            self(*self.remove, *made, code=None)
