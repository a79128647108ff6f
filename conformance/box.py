"""One bundle, one container id, and the runtime's command line: what every check works with."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from conformance import machine
from conformance.editing import Editing
from conformance.machine import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

APPLETS = (
    "[ cat chmod chown cp cut df dd echo env expr false find grep head id ionice ip kill ln ls mkdir mknod mount "
    "mv od printf pwd readlink renice rm sed sh sleep sort stat stty tail test touch tr true tty umount uname wc "
    "nproc hostname"
).split()
ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\nwalnut:x:1000:1000:walnut:/home/walnut:/bin/sh\n",
    "group": "root:x:0:\nwalnut:x:1000:\n",
}
CAPS = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_MKNOD CAP_SETGID CAP_SETUID CAP_SYS_CHROOT".split()
EMPTY = {"nosuid", "noexec", "nodev"}


class Failed(Exception):
    """The runtime does not do what the row asks."""


class Skip(Exception):
    """This machine cannot show it; the text says why."""


class PlanOnly(Exception):
    """This machine cannot show it, but the runtime's printed plan has it; the text says why and what."""


def fail(text: str) -> NoReturn:
    """End the check: not conformant."""
    raise Failed(text)


def holds(condition: Any, text: str) -> None:
    """The check goes on only when condition is true."""
    if not condition:
        fail(text)


def same(found: Any, wanted: Any, what: str) -> None:
    """The check goes on only when both are equal."""
    if found != wanted:
        fail(f"{what}: {found!r}, not {wanted!r}")


def has(text: str, part: str, what: str) -> None:
    """The check goes on only when part is in text."""
    if part not in text:
        fail(f"{what}: no {part!r} in {text[-300:]!r}")


DEFAULT: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "process": {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": ["true"],
        "env": ["PATH=/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPS),
    },
    "root": {"path": "rootfs", "readonly": False},
    "hostname": "box",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        },
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        },
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    ],
    "linux": {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": name} for name in ("pid", "network", "ipc", "uts", "mount")],
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
    },
}


class Result(NamedTuple):
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


class Mount(NamedTuple):
    """One line of /proc/PID/mountinfo."""

    root: str
    options: set[str]  # of the mount
    fields: list[str]  # shared:N master:N unbindable
    fstype: str
    source: str
    data: set[str]  # of the file system


def mountinfo(text: str) -> dict[str, Mount]:
    """Mount point -> Mount; the topmost where there are several."""
    found = {}
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        found[fields[4]] = Mount(
            fields[3], set(fields[5].split(",")), fields[6:], tail[0], tail[1], set(tail[-1].split(","))
        )
    return found


def status_of(text: str) -> dict[str, str]:
    """/proc/PID/status as a dict."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


class Suite:
    """What all checks share: the runtime's argv, a work directory, a root file system."""

    def __init__(self, runtime: str, work: Path) -> None:
        self.runtime = shlex.split(runtime)
        if "/" in self.runtime[0]:
            self.runtime[0] = os.path.abspath(self.runtime[0])
        self.work = work
        self.prefix = f"cf{os.getpid()}"
        self.count = 0
        self.template = work / "template"
        self.template.mkdir(mode=0o755)
        shutil.copy("/bin/busybox", self.template / "busybox")
        compiled = os.environ.get("CONFORMANCE_PROBE")  # for a machine without a compiler
        if compiled:
            shutil.copy(compiled, self.template / "probe")
        else:
            source = Path(__file__).with_name("probe.c")
            subprocess.run(["cc", "-std=gnu11", "-static", "-O1", "-o", self.template / "probe", source], check=True)
        for name in ("busybox", "probe"):
            (self.template / name).chmod(0o755)

    def driving(self, runtime: list[str]) -> Suite:
        """The same for another runtime."""
        other = copy.copy(self)
        other.runtime = runtime
        other.__dict__.pop("features", None)
        self.count += 1000  # its ids are not ours
        return other

    def command(self, *args: str) -> Result:
        """The runtime without a state directory: features, --version."""
        done = subprocess.run(
            [*self.runtime, *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    @functools.cached_property
    def features(self) -> dict[str, Any] | None:
        """The features document, None when the runtime has no such verb."""
        shown = self.command("features")
        try:
            document = json.loads(shown.out)
        except ValueError:
            return None
        return document if shown.code == 0 and isinstance(document, dict) else None

    @functools.cache  # noqa: B019
    def knows(self, verb: str, option: str = "") -> bool:
        """Whether `VERB --help` succeeds, and mentions the option."""
        shown = self.command(verb, "--help")
        return shown.code == 0 and option in shown.out + shown.err

    @contextlib.contextmanager
    def box(self) -> Iterator[Box]:
        """A new Box; afterwards nothing of it is left."""
        self.count += 1
        directory = self.work / f"b{self.count}"
        directory.mkdir(mode=0o755)
        mounts, children = machine.mounts(), machine.children()
        box = Box(self, directory, f"{self.prefix}-{self.count}")
        try:
            yield box
        finally:
            box.close()
            machine.clean(f"{self.prefix}-", mounts, children)
            shutil.rmtree(directory, ignore_errors=True)


class Box(Editing):
    """One bundle and the container made of it.  Edit config; it is written when the container is created."""

    def __init__(self, suite: Suite, directory: Path, ident: str) -> None:
        self.suite = suite
        self.dir = directory  # outside of the bundle, for files of the check
        self.id = ident
        self.bundle = directory / ident
        self.rootfs = self.bundle / "rootfs"
        self.state_root = directory / "state"
        self.config: dict[str, Any] = copy.deepcopy(DEFAULT)
        self.linux["cgroupsPath"] = f"/{ident}"
        self.options: list[str] = []  # of the runtime, before every verb
        self.others: list[Box] = []
        self.made: list[str] = []
        self._make_rootfs()

    def _make_rootfs(self) -> None:
        for name in ("bin", "dev", "etc", "home/walnut", "proc", "root", "sys", "tmp", "mnt"):
            (self.rootfs / name).mkdir(parents=True)
        (self.rootfs / "tmp").chmod(0o1777)
        for name in ("busybox", "probe"):
            os.link(self.suite.template / name, self.rootfs / "bin" / name)
        for name in APPLETS:
            os.symlink("busybox", self.rootfs / "bin" / name)
        for name, text in ETC.items():
            (self.rootfs / "etc" / name).write_text(text)

    def another(self) -> Box:
        """A second container, in the same state root."""
        box = Box(self.suite, self.dir, f"{self.id}-{len(self.others)}")
        self.others.append(box)
        return box

    # editing

    @property
    def resources(self) -> dict[str, Any]:
        resources: dict[str, Any] = self.linux["resources"]
        return resources

    def shell_hook(self, kind: str, script: str, **fields: Any) -> None:
        """Add a hook that is a shell script: the host's shell, the container's for startContainer."""
        self.hook(kind, "/bin/sh", "sh", "-c", script, **fields)

    def write(self) -> None:
        """Write config.json."""
        (self.bundle / "config.json").write_text(json.dumps(self.config, indent=1))

    # driving

    def rt(self, *args: str, **popen: Any) -> Result:
        """Run the runtime with this state root; a command that hangs fails the check."""
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen}
        if "stdin" not in options:
            options.setdefault("input", "")  # no /dev/null: crun gives the host's to the user of a container
        timeout = options.pop("timeout", 20) * machine.SLOW
        argv = [*options.pop("prefix", ()), *self.suite.runtime, "--root", str(self.state_root), *self.options, *args]
        try:
            done = subprocess.run(argv, text=True, timeout=timeout, check=False, **options)
        except subprocess.TimeoutExpired:
            fail(f"`{args[0]}` did not return within {timeout:g} s")
        return Result(done.returncode, done.stdout or "", done.stderr or "")

    def _ok(self, verb: str, result: Result) -> Result:
        if result.code != 0:
            fail(f"`{verb}` exited {result.code}: {result.err.strip()[-400:]}")
        return result

    def try_create(self, *options: str, bundle: Path | None = None, **popen: Any) -> Result:
        """`create`, with files as the container's stdout and stderr; config.json must be there."""
        out, err = self.dir / f"{self.id}.out", self.dir / f"{self.id}.err"
        self.made.append(self.id)
        with out.open("wb") as stdout, err.open("wb") as stderr:
            popen = {"stdout": stdout, "stderr": stderr, **popen}
            result = self.rt("create", "--bundle", str(bundle or self.bundle), *options, self.id, **popen)
        return result._replace(out=out.read_text(errors="replace"), err=err.read_text(errors="replace"))

    def create(self, *options: str, **popen: Any) -> Result:
        """Write the config and `create`; must succeed."""
        self.write()
        return self._ok("create", self.try_create(*options, **popen))

    def start(self) -> Result:
        """`start`; must succeed."""
        return self._ok("start", self.rt("start", self.id))

    def up(self, *options: str) -> int:
        """create and start: a container that sleeps unless args were set.  Returns its pid."""
        if self.process["args"] == ["true"]:
            self.process["args"] = ["sleep", "100"]
        self.create(*options)
        pid = self.pid
        self.start()
        return pid

    def try_run(self, *options: str, **popen: Any) -> Result:
        """Write the config and `run` in the foreground."""
        self.write()
        self.made.append(self.id)
        return self.rt("run", *options, "--bundle", str(self.bundle), self.id, **popen)

    def run(self, *options: str, **popen: Any) -> Result:
        """As try_run, and the program must exit 0."""
        return self._ok("run", self.try_run(*options, **popen))

    def output(self, *argv: str, **popen: Any) -> str:
        """What a program prints when it is the container."""
        self.process["args"] = list(argv)
        return self.run(**popen).out

    def sh(self, text: str, **popen: Any) -> str:
        """What a shell script prints when it is the container."""
        return self.output("sh", "-c", text, **popen)

    def refused(self, what: str) -> str:
        """`create` must fail, and leave no container; returns its stderr."""
        self.write()
        return self.refuses(what, self.try_create())

    def refuses(self, what: str, result: Result) -> str:
        """The create that gave this result must have failed, and left no container; returns its stderr."""
        if result.code == 0:
            self.rt("delete", "--force", self.id)
            fail(f"{what}: `create` succeeded")
        left = self.rt("state", self.id)
        if left.code == 0:
            fail(f"{what}: `create` failed, and yet there is a container")
        return result.err

    def exec(self, *args: str, **popen: Any) -> Result:
        """`exec ID ARGS`; must succeed."""
        return self._ok("exec", self.rt("exec", self.id, *args, **popen))

    def exec_options(self, options: list[str], *args: str) -> Result:
        """`exec OPTIONS ID ARGS`; must succeed."""
        return self._ok("exec", self.rt("exec", *options, self.id, *args))

    def exec_json(self, process: dict[str, Any], *options: str) -> Result:
        """`exec --process FILE ID`; must succeed."""
        file = self.dir / "process.json"
        file.write_text(json.dumps(process))
        return self._ok("exec", self.rt("exec", *options, "--process", str(file), self.id))

    def state(self) -> dict[str, Any]:
        """What `state` prints; must succeed."""
        shown = self._ok("state", self.rt("state", self.id))
        try:
            state: dict[str, Any] = json.loads(shown.out)
        except ValueError:
            fail(f"`state` prints no JSON: {shown.out[:200]!r}")
        return state

    @property
    def status(self) -> str:
        return str(self.state().get("status"))

    @property
    def pid(self) -> int:
        return int(self.state().get("pid") or 0)

    def kill(self, *args: str) -> Result:
        """`kill ID SIGNAL`; must succeed."""
        return self._ok("kill", self.rt("kill", self.id, *args))

    def end(self) -> None:
        """Kill the container and wait until `state` says stopped."""
        pid = self.pid
        self.kill("KILL")
        machine.wait_for(pid, 5)
        if not machine.until(lambda: self.status == "stopped"):
            fail(f"killed, and yet the status is {self.status!r}")

    def delete(self) -> Result:
        """`delete`; must succeed."""
        return self._ok("delete", self.rt("delete", self.id))

    def finish(self) -> int:
        """Start a created container and wait for its exit code."""
        pid = self.pid
        self.start()
        code = machine.wait_for(pid, 10)
        if code is None:
            fail("the program did not end")
        return code

    def logs(self) -> str:
        """What a container made by create wrote to its stdout."""
        return (self.dir / f"{self.id}.out").read_text()

    def close(self) -> None:
        """Remove the containers that are still there."""
        for box in self.others:
            box.close()
        for ident in dict.fromkeys(self.made):
            with contextlib.suppress(Failed):
                self.rt("delete", "--force", ident)

    # looking

    def cgroup_dir(self, controller: str) -> Path:
        """The container's cgroup as cgroupsPath asks for it.  Raises Skip when the controller is not here."""
        top = machine.controller(controller)
        if top is None:
            raise Skip(f"the kernel offers no {controller} controller here")
        return top / self.linux["cgroupsPath"].lstrip("/")

    def cgroup_file(self, controller: str, name: str) -> str:
        """The text of a file of the container's cgroup."""
        path = self.cgroup_dir(controller) / name
        if not path.exists():
            fail(f"{path} does not exist")
        return path.read_text().strip()

    def alone(self, change: Callable[[Box], Any], what: str) -> None:
        """The config with one change in it must be refused."""
        before = copy.deepcopy(self.config)
        change(self)
        self.refused(what)
        self.config = before

    def skip_or_plan(self, reason: str, *parts: str, assume: str = "") -> NoReturn:
        """This machine cannot show it: look for parts, in this order, in what the runtime's `plan` verb prints.

        assume: what the plan is to take this host to have.
        """
        options = ["--id", self.id, *(["--assume", assume] if assume else [])]
        if parts and all(self.suite.knows("plan", option) for option in options[::2]):
            self.write()
            plan = ""
            for form in ([], ["--json"]):  # in words, and with every value
                shown = self.suite.command("plan", *options, *form, str(self.bundle))
                if shown.code != 0:
                    fail(f"the plan is refused: {shown.err.strip()[-300:]}")
                plan += re.sub(r"\s+", " ", shown.out)
            for part in parts:  # in this order
                has(plan, part, "the plan")
                plan = plan.partition(part)[2]
            raise PlanOnly(f"{reason}; the plan has it")
        raise Skip(reason)


class ConsoleSocket:
    """The engine's end of --console-socket.  Use as a context."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.listener.settimeout(TIMEOUT)

    def __enter__(self) -> ConsoleSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()

    def receive(self) -> int:
        """The master of the terminal."""
        connection, _ = self.listener.accept()
        with connection:
            _data, fds, _flags, _ = socket.recv_fds(connection, 4096, 4)
        same(len(fds), 1, "descriptors on the console socket")
        return fds[0]


def read_all(fd: int, timeout: float = 5.0) -> str:
    """A terminal's output to its end."""
    import select

    seen = b""
    deadline = time.monotonic() + timeout * machine.SLOW
    while True:
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            fail(f"the terminal does not end after {seen!r}")
        try:
            chunk = os.read(fd, 4096)
        except OSError:  # EIO: the last slave is closed
            chunk = b""
        if not chunk:
            return seen.decode(errors="replace")
        seen += chunk
