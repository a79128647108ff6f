"""Run the criu program, speak its RPC (criu(8), `criu swrk`), and say what it says."""

from __future__ import annotations

import array
import os
import shutil
import socket
import subprocess

from pyoci import errors
from pyoci.plan import criu_rpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Self

    from pyoci.plan import criu as plan_criu

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CONFIGS = ("/etc/criu/pyoci.conf", "/etc/criu/runc.conf")
ANNOTATION = "org.criu.config"
# criu wants a root that is a mount point.  In a mount namespace of its own the mount goes with the process; slave:
# nothing comes back to the host.  exec: criu is our own child, and with rst_sibling so is the container's init.
SCRIPT = 'mount --rbind "$1" "$2" && echo >"/proc/self/fd/$3" && shift 3 && exec "$@"'
WRAPPER = ("unshare", "--mount", "--propagation", "slave", "sh", "-c", SCRIPT, "sh")
MESSAGE = 64 << 10  # bytes: criu's own messages are far smaller


def find(program: str) -> str:
    """The path of criu.  program: of --criu, or "".  Raises errors.SetupError."""
    found = shutil.which(program or "criu", path=os.environ.get("PATH") or PATH) or shutil.which(program, path=PATH)
    if found is None:
        raise errors.SetupError(
            f"{program or 'criu'}: executable file not found in $PATH", hint="install criu, or name it with --criu"
        )
    return os.path.abspath(found)


def config(annotations: dict[str, str]) -> str:
    """The configuration file for criu: of the annotation, or one for runtimes, or ""."""
    if ANNOTATION in annotations:
        return annotations[ANNOTATION]
    return next((file for file in CONFIGS if os.path.exists(file)), "")


def directory(path: str, mode: int = 0o700) -> str:
    """An absolute directory for criu, made with that mode when it is missing.  Raises errors.SetupError."""
    path = os.path.abspath(path)
    try:
        os.makedirs(path, mode=mode, exist_ok=True)
    except OSError as error:
        raise errors.failed(f"make {path}", error) from None
    return path


def opened(directory: str) -> int:
    """A descriptor of a directory.  Raises errors.SetupError."""
    try:
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise errors.failed(f"open {directory}", error) from None


def environment() -> dict[str, str]:
    """criu calls iptables, tar and others."""
    return {**os.environ, "PATH": os.environ.get("PATH") or PATH}


class Service:
    """One criu that does one request for us.  Use as a context: what was not answered is given up at its end.

    process: criu, or what becomes criu by execve(2); our child.
    """

    __slots__ = ("_dirs", "_options", "_place", "_program", "_sock", "_wanted", "process")

    def __init__(
        self,
        program: str,
        wanted: plan_criu.Wanted,
        options: Mapping[str, Any],
        mount: tuple[str, str] | None = None,
        stdio: int | None = None,
        fds: Sequence[int] = (),
    ) -> None:
        """program: see find.  options: of plan.criu.  mount: what is bound on what, in a mount namespace of criu's own.
        stdio: what its stdin, stdout and stderr are, None for ours.  fds: of ours, the same numbers in criu.
        Raises errors.SetupError."""
        self._program = program
        self._wanted = wanted
        self._options = options
        self._dirs: list[int] = []
        self._sock, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reader, writer = os.pipe()
        with other, open(reader, "rb") as ready, open(writer, "wb") as there:
            wrapper = (*WRAPPER, *mount, str(writer)) if mount else ()
            numbers = (other.fileno(), writer, *fds)
            command = [*wrapper, program, "swrk", str(other.fileno())]
            self.process = subprocess.Popen(
                command, stdin=stdio, stdout=stdio, stderr=stdio, env=environment(), pass_fds=numbers
            )
            there.close()
            self._place = f"/proc/{self.process.pid}/root" if mount and ready.read(1) else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()  # which ends it, if it has not
        self.process.wait()
        for fd in self._dirs:
            os.close(fd)

    def ask(self, what: int, notify: Callable[[str, int, int], None]) -> dict[str, Any]:
        """Have it do the request and return the answer.

        what: DUMP, RESTORE or PRE_DUMP of plan.criu_rpc.  notify: called with the name of an event, the pid of init
        and a descriptor, which is its own then, or -1; what it raises ends the request and is raised here.
        Raises errors.SetupError.
        """
        # criu looks for them among our descriptors and mounts in there: they have to be of its mount namespace
        for path in (self._wanted.images, self._wanted.work):
            self._dirs.append(opened(self._place + path))
        directories = {"images_dir_fd": self._dirs[0], "work_dir_fd": self._dirs[1]}
        self._send({"type": what, "opts": {**self._options, **directories}})
        failure: errors.Error | None = None
        while True:
            answer, fd = self._receive()
            kind = answer.get("type")
            if not answer.get("success") or kind not in (what, criu_rpc.NOTIFY):
                raise failure or self._failure(what, answer)
            if kind == what:
                break
            event = answer.get("notify", {})
            try:
                notify(event.get("script", ""), event.get("pid", 0), fd)
            except errors.Error as error:
                failure = error
            self._send({"type": criu_rpc.NOTIFY, "notify_success": failure is None})
        self._sock.shutdown(socket.SHUT_WR)
        # after a pre-dump it waits for the dump, which is another criu's here
        if self.process.wait() and what != criu_rpc.PRE_DUMP:
            raise self._failure(what, {})
        return answer

    def _send(self, request: Mapping[str, Any]) -> None:
        try:
            self._sock.send(criu_rpc.encode(criu_rpc.REQUEST, request))
        except OSError:  # it has ended: reading says so
            pass

    def _receive(self) -> tuple[dict[str, Any], int]:
        """The next message and the descriptor that came with it, or -1."""
        try:
            data, control, _, _ = self._sock.recvmsg(MESSAGE, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return {}, -1
        fds = array.array("i")
        for level, kind, content in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(content[:4])
        return criu_rpc.decode(criu_rpc.RESPONSE, data), fds[0] if fds else -1

    def _failure(self, what: int, answer: Mapping[str, Any]) -> errors.SetupError:
        self._sock.close()
        status = self.process.wait()
        name = {criu_rpc.DUMP: "DUMP", criu_rpc.RESTORE: "RESTORE", criu_rpc.PRE_DUMP: "PRE_DUMP"}[what]
        number = answer.get("cr_errno", 0)
        log = f"{self._wanted.work}/{self._options['log_file']}"
        return failure(self._program, name, number, answer.get("cr_errmsg") or f"exit status {status}", log)


def failure(program: str, what: str, number: int, said: str, log: str) -> errors.SetupError:
    """The error for a criu that failed: in the words of runc, which containerd looks for, with criu's own reason."""
    reason = last_error(log)
    unfit = unable(program)
    if unfit:
        reason = f"criu cannot work on this machine: {unfit}" + (f" ({reason})" if reason else "")
    text = f"criu failed: type {what} errno {number}: {reason or said}"
    return errors.SetupError(f"{text}, log file: {log}", hint="`criu check` tells more" if unfit else "")


def last_error(log: str) -> str:
    """The last line of a log of criu that says Error, without the time."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file if "Error" in line]
    except OSError:
        return ""
    return lines[-1][lines[-1].index("Error") :][:300] if lines else ""


def unable(program: str) -> str:
    """Why `criu check` says that it cannot work here, "" when it can."""
    try:
        done = subprocess.run(
            [program, "check"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return "" if done.returncode == 0 else (said[-1].strip()[:300] if said else f"exit status {done.returncode}")


def require_dirty_tracking(program: str) -> None:
    """Raise errors.SetupError where the kernel cannot tell which memory has changed: pre-dumps need it."""
    command = [program, "check", "--feature", "mem_dirty_track"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=environment(), check=False)
    if done.returncode:
        reason = unable(program)
        raise errors.SetupError(
            f"criu cannot work on this machine: {reason}"
            if reason
            else "this kernel does not track changed memory (soft-dirty), which --pre-dump needs"
        )
