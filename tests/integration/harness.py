"""Real containers for the tests.

A Box is one bundle, one state root and one container id, with the runtime of $RUNTIME to drive it
(any OCI runtime with runc's command line; the default is the one this project builds).
A Host is what a test may not change: mounts, cgroups, processes, descriptors; it is
compared before and after each test.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import functools
import json
import os
import pty
import select
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from conformance.editing import Editing
from conformance.machine import (  # noqa: F401  # for those who import this
    CLONE_NEWNS,
    MS_BIND,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    PR_SET_CHILD_SUBREAPER,
    checked,
    libc,
    mount,
    umount,
)
from pyoci.host import cgroup_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

PROJECT = Path(__file__).resolve().parents[2]
RUNTIME = shlex.split(os.environ.get("RUNTIME", "")) or [str(PROJECT / "build" / "pyoci")]
if "/" in RUNTIME[0]:
    RUNTIME[0] = os.path.abspath(RUNTIME[0])
SLOWNESS = 6 if os.environ.get("PYOCI_VM") else 1  # the virtual machine is emulated
TIMEOUT = 20.0 * SLOWNESS  # seconds one runtime command may take
PREFIX = f"it{os.getpid()}-"  # of every id, and so of every cgroup, of this session


def isolate() -> None:
    """Give this process a private mount namespace, and make orphaned descendants its children."""
    checked(libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    checked(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


@functools.cache
def flavour() -> str:
    """The name of the runtime under test, as its --version says: "pyoci", "runc", "crun"..."""
    shown = subprocess.run([*RUNTIME, "--version"], capture_output=True, text=True, timeout=TIMEOUT, check=True)
    return shown.stdout.split()[0]


def pyoci_only(reason: str) -> pytest.MarkDecorator:
    """The test holds for pyoci; reason says what runc 1.1 does instead."""
    return pytest.mark.pyoci_only(reason)


def until(condition: Callable[[], Any], what: str, timeout: float = 0.0) -> None:
    """Wait for a condition that has no descriptor to wait on.  The test fails after timeout seconds, or TIMEOUT."""
    timeout = max(timeout, TIMEOUT)
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s"
        time.sleep(0.005)


def kernel_version() -> tuple[int, ...]:
    """(6, 1) of "6.1.0-49-cloud-amd64"."""
    return tuple(int(number) for number in os.uname().release.split("-")[0].split(".")[:2])


def wait_for(pid: int) -> int:
    """Exit code (or -signal) of a child, or of a process that the runtime left to us, its subreaper."""
    fd = os.pidfd_open(pid)
    try:
        ready, _, _ = select.select([fd], [], [], TIMEOUT)
        assert ready, f"process {pid} still runs after {TIMEOUT:g} s"
    finally:
        os.close(fd)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


# -- the rootfs -----------------------------------------------------------------------------

ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\nwalnut:x:1000:1000:walnut:/home/walnut:/bin/sh\n",
    "group": "root:x:0:\nwalnut:x:1000:\n",
    "notexec": "not a program\n",
}


def need_reachable(*paths: str | Path) -> None:
    """Skip where an ordinary user cannot come to these files and the checkout, as in a clone below /root."""
    for path in (PROJECT / "pyproject.toml", *paths):
        for parent in {*Path(path).absolute().parents, *Path(path).resolve().parents}:
            if not parent.stat().st_mode & stat.S_IXOTH:
                pytest.skip(f"an ordinary user cannot enter {parent}: they can in a clone somewhere else")


class Template:
    """A busybox root file system: made once, its files and the applets' links hard-linked into each bundle, which
    is much faster than that many new links."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        shutil.copy("/bin/busybox", directory / "busybox")
        applets = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True)
        for name in applets.stdout.split():
            if name != "busybox":
                os.symlink("busybox", directory / name)
        if made := os.environ.get("PROBE"):  # there is no compiler in the virtual machine
            shutil.copy(made, directory / "probe")
            return
        source = Path(__file__).with_name("probe.c")
        subprocess.run(["cc", "-static", "-O1", "-o", directory / "probe", source], check=True)

    def copy_to(self, rootfs: Path) -> None:
        """Make rootfs: /bin with every applet and the probe, /etc, and empty mount points."""
        for name in ("bin", "dev", "etc", "home/walnut", "proc", "root", "sys", "tmp", "var"):
            (rootfs / name).mkdir(parents=True)
        (rootfs / "tmp").chmod(0o1777)
        for name in os.listdir(self.directory):
            os.link(self.directory / name, rootfs / "bin" / name, follow_symlinks=False)
        for name, text in ETC.items():
            (rootfs / "etc" / name).write_text(text)


def default_config(ident: str) -> dict[str, Any]:
    """What `runc spec` writes, without a terminal and with a writable root."""
    config: dict[str, Any] = copy.deepcopy(DEFAULT)
    config["linux"]["cgroupsPath"] = f"/{ident}"
    return config


BASIC_CAPS = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
DEFAULT: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "process": {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": ["true"],
        "env": ["PATH=/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), BASIC_CAPS),
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    },
    "root": {"path": "rootfs", "readonly": False},
    "hostname": "box",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        },
        {
            "destination": "/dev/mqueue",
            "type": "mqueue",
            "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"],
        },
        {
            "destination": "/sys",
            "type": "sysfs",
            "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"],
        },
    ],
    "linux": {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": name} for name in ("pid", "network", "ipc", "uts", "mount")],
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
}


# -- commands -------------------------------------------------------------------------------


class Result(NamedTuple):
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The last line of stderr: what engines show."""
        lines = self.err.strip().splitlines()
        return lines[-1] if lines else ""


class ConsoleSocket:
    """The engine's end of --console-socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # sun_path holds 107 bytes and the directories of tests are short
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.listener.settimeout(TIMEOUT)

    def receive(self) -> int:
        """The pty master: exactly one descriptor, with at least one byte of data (ENGINE-CONTRACT 2.2)."""
        connection, _ = self.listener.accept()
        with connection:
            data, fds, _flags, _ = socket.recv_fds(connection, 4096, 4)
        assert len(data) >= 1
        assert len(fds) == 1
        return fds[0]

    def close(self) -> None:
        self.listener.close()
        self.path.unlink(missing_ok=True)


def read_until(fd: int, text: str, timeout: float = 0.0) -> str:
    """Read a terminal until text appears, or to its end when text is "".  timeout: as for until."""
    timeout = max(timeout, TIMEOUT)
    seen = b""
    deadline = time.monotonic() + timeout
    while not text or text.encode() not in seen:
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"no {text!r} within {timeout:g} s in {seen!r}"
        try:
            chunk = os.read(fd, 4096)
        except OSError:  # EIO: the last slave is closed
            chunk = b""
        if not chunk:
            assert not text, f"the terminal ended without {text!r}: {seen!r}"
            break
        seen += chunk
    return seen.decode()


class Terminal:
    """A program on a pty of its own, as from a person's shell; use as a context."""

    def __init__(self, argv: list[str], rows: int = 24, columns: int = 80) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            termios.tcsetwinsize(0, (rows, columns))
            os.execvp(argv[0], argv)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def read(self, text: str) -> str:
        """Read until text appears; "" reads to the end."""
        return read_until(self.fd, text)

    def resize(self, rows: int, columns: int) -> None:
        termios.tcsetwinsize(self.fd, (rows, columns))

    def resize_until(self, rows: int, columns: int, text: str) -> None:
        """Resize again and again until text appears: an engine's client looks for the signal a while after it has
        shown the container's first output."""
        seen = b""
        deadline = time.monotonic() + 6 * TIMEOUT
        while text.encode() not in seen:
            assert time.monotonic() < deadline, f"the size does not arrive: {seen!r}"
            self.resize(rows, columns - 1)
            self.resize(rows, columns)
            if select.select([self.fd], [], [], 0.5)[0]:
                seen += os.read(self.fd, 4096)

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self.fd)

    def wait(self) -> int:
        return wait_for(self.pid)


class Box(Editing):
    """One bundle and the container made from it.

    config is written when the container is created; edit it before.  Commands that fail or
    time out fail the test unless check=False.
    """

    def __init__(self, directory: Path, name: str, template: Template) -> None:
        self.directory = directory
        self.id = PREFIX + name
        self.bundle = directory / name
        self.rootfs = self.bundle / "rootfs"
        self.root = directory / "state"  # shared by all boxes of a test
        self.config = default_config(self.id)
        self.stdout = self.bundle / "stdout"
        self.stderr = self.bundle / "stderr"
        self.started: list[subprocess.Popen[str]] = []
        template.copy_to(self.rootfs)

    # editing

    def args(self, *argv: str) -> None:
        self.process["args"] = list(argv)

    def caps(self, *names: str, sets: str = "bounding effective permitted") -> None:
        """Exactly these capabilities in exactly these sets."""
        self.process["capabilities"] = {key: list(names) for key in sets.split()}

    def write(self) -> None:
        (self.bundle / "config.json").write_text(json.dumps(self.config, indent=2))

    # driving

    def argv(self, *args: str) -> list[str]:
        return [*RUNTIME, "--root", str(self.root), *args]

    def rt(self, *args: str, check: bool = True, timeout: float = TIMEOUT, **popen: Any) -> Result:
        """Run the runtime, stdout and stderr captured."""
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        options.update(popen)
        done = subprocess.run(self.argv(*args), text=True, timeout=timeout, check=False, **options)
        result = Result(done.returncode, done.stdout or "", done.stderr or "")
        if check:
            assert result.code == 0, f"{shlex.join(args)} exited {result.code}: {result.err}"
        return result

    def create(self, *options: str, check: bool = True, **popen: Any) -> Result:
        """`create` as an engine calls it: the container gets files as stdout and stderr."""
        self.write()
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            popen = {"stdout": out, "stderr": err, **popen}
            result = self.rt("create", "--bundle", str(self.bundle), *options, self.id, check=False, **popen)
        result = result._replace(out=self.stdout.read_text(), err=self.stderr.read_text())
        if check:
            assert result.code == 0, f"create exited {result.code}: {result.err}"
        return result

    def run(self, *options: str, check: bool = True, **popen: Any) -> Result:
        """`run` in the foreground."""
        self.write()
        return self.rt("run", *options, "--bundle", str(self.bundle), self.id, check=check, **popen)

    def popen(self, *args: str, **popen: Any) -> subprocess.Popen[str]:
        """The runtime in the background, ended with the test at the latest; write the config first."""
        self.started.append(subprocess.Popen(self.argv(*args), text=True, **popen))
        return self.started[-1]

    def output(self, *argv: str) -> str:
        """What a program prints when it is the container."""
        self.args(*argv)
        return self.run().out

    def sh(self, text: str) -> str:
        """What a shell script prints when it is the container."""
        return self.output("sh", "-c", text)

    def start(self, check: bool = True) -> Result:
        return self.rt("start", self.id, check=check)

    def up(self, *options: str) -> None:
        """create and start; a container that only sleeps unless args were set."""
        if self.process["args"] == ["true"]:
            self.args("sleep", "100")
        self.create(*options)
        self.start()

    def exec(self, *args: str, check: bool = True, **popen: Any) -> Result:
        """`exec ID ARGS`."""
        return self.rt("exec", self.id, *args, check=check, **popen)

    def exec_json(self, process: dict[str, Any], *options: str, check: bool = True, **popen: Any) -> Result:
        """`exec --process FILE ID`."""
        file = self.bundle / "process.json"
        file.write_text(json.dumps(process))
        return self.rt("exec", *options, "--process", str(file), self.id, check=check, **popen)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.rt("state", self.id).out)
        return state

    @property
    def status(self) -> str:
        return str(self.state()["status"])

    @property
    def pid(self) -> int:
        return int(self.state()["pid"])

    def kill(self, *args: str, check: bool = True) -> Result:
        return self.rt("kill", self.id, *args, check=check)

    def delete(self, *options: str, check: bool = True) -> Result:
        return self.rt("delete", *options, self.id, check=check)

    def finish(self) -> int:
        """Start a created container and wait for its exit code."""
        pid = self.pid
        self.start()
        return wait_for(pid)

    def logs(self) -> str:
        """What a container made by create wrote to its stdout."""
        return self.stdout.read_text()

    # looking

    def entries(self) -> set[str]:
        """The ids under the state root."""
        if not self.root.exists():
            return set()
        return {entry.name for entry in self.root.iterdir() if not entry.name.startswith(".")}

    def close(self) -> None:
        """End what popen() started."""
        for process in self.started:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()

    def destroy(self) -> None:
        """`delete --force` everything this test created: that must always be enough."""
        for name in sorted(self.entries(), reverse=True):  # the last first: it may be in namespaces of another
            self.rt("delete", "--force", name)
            children()  # reap: an init of a pid namespace ends after all others there were reaped


def status_field(text: str, name: str) -> str:
    """A field of /proc/PID/status."""
    return next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith(name + ":"))


def proc_status(pid: int | str, name: str) -> str:
    return status_field(Path(f"/proc/{pid}/status").read_text(), name)


@contextlib.contextmanager
def descriptors_at(first: int, *files: int | Path) -> Iterator[list[int]]:
    """Descriptors first, first + 1... of this process: files opened, or descriptors duplicated; undone after."""
    numbers = list(range(first, first + len(files)))
    # higher numbers than any of them, so that nothing below is overwritten by opening
    old = {number: fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 600) for number in numbers if _is_open(number)}
    try:
        for number, file in zip(numbers, files, strict=True):
            fd = file if isinstance(file, int) else os.open(file, os.O_RDONLY)
            high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 600)
            if not isinstance(file, int):
                os.close(fd)
            os.dup2(high, number)
            os.close(high)
        yield numbers
    finally:
        for number in numbers:
            if number in old:
                os.dup2(old[number], number, inheritable=False)
                os.close(old[number])
            else:
                os.close(number)


def _is_open(fd: int) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


# -- what must be as before -----------------------------------------------------------------


def mounts() -> list[str]:
    """The mount points of this namespace."""
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def cgroups(prefix: str = PREFIX) -> set[str]:
    """Every cgroup directory, in any hierarchy, with prefix in its path."""
    found: set[str] = set()
    todo = ["/sys/fs/cgroup"]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue  # another's: gone meanwhile, or (ENAMETOOLONG) of a test for deep trees
        todo += below
        found.update(path for path in below if prefix in path)
    return found


def children() -> dict[int, str]:
    """The living children of this process (zombies are reaped): pid -> command."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return {}
        if pid == 0:
            break
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            stat = Path("/proc", name, "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(stat.rpartition(")")[2].split()[1]) == os.getpid():
            found[int(name)] = stat[stat.index("(") : stat.rindex(")") + 1]
    return found


def descriptors() -> dict[str, str]:
    """The open descriptors of this process."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the one that read the directory
    return found


class Host:
    """A picture of the host; leftovers() says what a test added to it."""

    def __init__(self) -> None:
        self.mounts = mounts()
        self.cgroups = cgroups()
        self.options = cgroup_options.current()
        self.children = children()
        self.descriptors = descriptors()

    def leftovers(self) -> list[str]:
        """Everything that is here now and was not; waits for killed processes to go."""
        deadline = time.monotonic() + TIMEOUT
        while (left := self._leftovers()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return left

    def _leftovers(self) -> list[str]:
        return [
            *_added("mount", self.mounts, mounts()),
            *_added("cgroup", self.cgroups, cgroups()),
            *_added("options of cgroup v2:", [self.options], [cgroup_options.current()]),
            *_added("process", self.children.items(), children().items()),
            *_added("descriptor", self.descriptors.items(), descriptors().items()),
        ]

    def restore(self) -> None:
        """Remove what is left over, so that one failure stays one failure."""
        for pid in set(children()) - set(self.children):
            os.kill(pid, signal.SIGKILL)
        for target in reversed(_extra(self.mounts, mounts())):
            umount(target)
        for directory in sorted(cgroups() - self.cgroups, reverse=True):
            for member in Path(directory, "cgroup.procs").read_text().split():
                os.kill(int(member), signal.SIGKILL)
            until(functools.partial(_rmdir, directory), f"rmdir {directory}")
        if cgroup_options.current() != self.options:
            cgroup_options.put(self.options)
        until(lambda: not set(children()) - set(self.children), "end of leftover processes")


def remove_cgroups(part: str) -> None:
    """Remove the (empty, or soon empty) cgroups that have part in their path."""
    for directory in sorted(cgroups(part), reverse=True):
        until(functools.partial(_rmdir, directory), f"rmdir {directory}")


def _rmdir(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _extra(before: Iterable[Any], after: Iterable[Any]) -> list[Any]:
    """The items of after that are not in before, counting repeats."""
    rest = list(before)
    extra = []
    for item in after:
        if item in rest:
            rest.remove(item)
        else:
            extra.append(item)
    return extra


def _added(what: str, before: Iterable[Any], after: Iterable[Any]) -> list[str]:
    return [f"{what} {item}" for item in _extra(before, after)]


def fd_numbers(listing: str) -> Sequence[int]:
    """The descriptor numbers that `probe fds` printed."""
    return sorted(int(line.split()[0]) for line in listing.splitlines())
