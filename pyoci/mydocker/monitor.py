"""conmon, the process beside each container: its pty or pipes, its attach socket, its exit code.

RUN/ID/               the bundle of the runtime: config.json
RUN/ID/attach         SOCK_SEQPACKET: what comes has a first byte 2 (stdout) or 3 (stderr), what goes is stdin
RUN/ID/ctl            "1 ROWS COLUMNS" is the size of the terminal
RUN/ID/exit/ID        the exit code
RUN/ID/log            a fifo, read by logwriter.py
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

from pyoci.mydocker import containers, delegation, errors, logwriter, processes, records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSED = ("HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "MYDOCKER_ROOTLESS_UID")
_LIMIT = 64 << 10  # bytes of conmon's answer


def runtime_path() -> str:
    """The pyoci command that belongs to this package.  Raises errors.Error."""
    home = os.path.dirname(os.path.dirname(_HERE))
    prefixes = (home, os.path.dirname(os.path.dirname(home)), os.path.dirname(os.path.dirname(os.path.dirname(home))))
    for candidate in (f"{home}/build/pyoci", *(f"{prefix}/bin/pyoci" for prefix in prefixes)):
        if os.access(candidate, os.X_OK):
            return candidate
    found = shutil.which("pyoci", path=_PATH)
    if found is None:
        raise errors.Error("cannot find the pyoci command", hint="make build, or make install", code=125)
    return found


def conmon_path() -> str:
    """Raises errors.Error."""
    found = shutil.which("conmon", path=f"{_PATH}:/usr/libexec/podman:/usr/lib/podman")
    if found is None:
        raise errors.Error("cannot find conmon, which watches over each container", hint="install conmon", code=125)
    return found


def own_command(paths: Any, *args: str) -> list[str]:
    """Ourselves, with other arguments."""
    return [sys.executable, "-I", "-S", f"{_HERE}/__main__.py", "--root", paths.root, *args]


def environment() -> dict[str, str]:
    """Of the processes beside a container: nothing of what the caller happens to have."""
    return {"PATH": _PATH, **{name: os.environ[name] for name in _PASSED if name in os.environ}}


class Monitor:
    """conmon of one container."""

    def __init__(self, container: containers.Container) -> None:
        self.container = container
        self.run = container.run

    # -- starting -------------------------------------------------------------------------------

    def prepare(self) -> None:
        """An empty RUN/ID; nothing of an earlier run is mounted there any more."""
        shutil.rmtree(self.run, ignore_errors=True)
        records.remove(self.container.exit_path)
        os.makedirs(os.path.dirname(self.container.exit_path), 0o700, exist_ok=True)
        os.mkdir(self.run, 0o711)

    def create(self, config: dict[str, Any]) -> int:
        """Start conmon, which lets the runtime create the container; gives the pid of its init.

        Raises errors.Error with the runtime's own words, and 127, 126 or 125 as docker has them.
        """
        records.write(f"{self.run}/config.json", config)
        held = self._start_log()
        reading, writing = os.pipe()
        try:
            environ = {**environment(), "_OCI_SYNCPIPE": str(writing)}
            process = subprocess.Popen(
                self._command(config),
                env=environ,
                cwd=self.run,  # it writes `oom` where it stands
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[writing],
                start_new_session=True,
            )
        finally:
            os.close(writing)
        with os.fdopen(reading, "rb") as answer:
            text = answer.readline(_LIMIT)
        process.wait()  # conmon itself goes on in a child of its
        for fd in held:
            os.close(fd)
        return self._pid(text)

    def _command(self, config: dict[str, Any]) -> list[str]:
        container = self.container
        command = [conmon_path(), "--api-version", "1", "-c", container.id, "-u", container.id, "-n", container.name]
        command += ["-r", runtime_path(), "--runtime-arg", "--root", "--runtime-arg", container.paths.states]
        if delegation.by_systemd(config):
            command += ["--runtime-arg", "--systemd-cgroup"]
        command += ["-b", self.run, "-p", f"{self.run}/pid", "-P", f"{self.run}/conmon.pid"]
        command += [
            "--exit-dir",
            os.path.dirname(container.exit_path),
            "--full-attach",
            "--no-sync-log",
            "--log-level",
            "error",
        ]
        command += ["-l", "none" if container.host["log_driver"] == "none" else f"k8s-file:{self.run}/log"]
        if config["process"]["terminal"]:
            command += ["-t"]
        if container.config["OpenStdin"]:
            command += ["-i"]
            # a terminal says end of file in band; otherwise it is the end of the one client that run has
            if config["process"]["terminal"] or not container.config["StdinOnce"]:
                command += ["--leave-stdin-open"]
        ours = own_command(container.paths, "_exited", container.id, container.facts()["run"])
        command += ["--exit-command", ours[0]]
        return command + [word for argument in ours[1:] for word in ("--exit-command-arg", argument)]

    def _start_log(self) -> list[int]:
        """Start the log's writer; gives what to close once conmon has opened its end: both, or it would wait for
        another reader for ever when the writer is killed before."""
        host = self.container.host
        if host["log_driver"] == "none":
            return []
        directory = log_directory(self.container)
        os.makedirs(directory, 0o700, exist_ok=True)
        os.mkfifo(f"{self.run}/log", 0o600)
        reading = os.open(f"{self.run}/log", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        writing = os.open(f"{self.run}/log", os.O_WRONLY | os.O_CLOEXEC)
        os.set_blocking(reading, True)
        alive = logwriter.claim(directory)  # before it runs: its interpreter may take longer than the container
        command = [sys.executable, "-I", "-S", logwriter.__file__]
        subprocess.Popen(
            [*command, directory, str(host["log_size"]), str(host["log_files"]), str(alive)],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[alive],
            env=environment(),
            cwd="/",
            start_new_session=True,
        )
        os.close(alive)
        return [reading, writing]

    def _pid(self, text: bytes) -> int:
        try:
            answer = json.loads(text)
            pid = int(answer["data"])
        except (ValueError, KeyError, TypeError):
            raise errors.Error("conmon ended without a word", code=125) from None
        if pid > 0:
            return pid
        said = str(answer.get("message") or "the runtime could not create the container").strip()
        message = _message(said.splitlines()[-1])
        raise errors.Error(message, code=exit_code_of(message))

    # -- while it runs --------------------------------------------------------------------------

    def pid(self) -> tuple[int, int]:
        """conmon's pid and start time; (0, 0) when it is not there."""
        pid, start = self.container.facts()["monitor"]
        if processes.alive(pid, start):
            return pid, start
        try:
            with open(f"{self.run}/conmon.pid", encoding="ascii") as file:
                pid = int(file.read())
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                ours = self.container.id.encode() in file.read().split(b"\0")
        except (OSError, ValueError):
            return 0, 0
        return (pid, processes.start_time(pid)) if ours else (0, 0)

    def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal its size; no error when conmon is gone."""
        try:
            fd = os.open(f"{self.run}/ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return
        with os.fdopen(fd, "wb", buffering=0) as file:
            try:
                file.write(f"1 {rows} {columns}\n".encode())
            except OSError:
                return

    def wait(self, timeout: float | None = None) -> bool:
        """Until conmon has ended, and with it the exit command; whether it has."""
        return processes.wait(*self.pid(), timeout)


def _message(line: str) -> str:
    """The words of an error of the runtime's, which come as a line of a log: time="..." level=error msg="..." """
    found = re.search(r' msg=("(?:[^"\\]|\\.)*")$', line)
    if found is None:
        return line.removeprefix("pyoci: ")
    try:
        return str(json.loads(found[1]))
    except ValueError:
        return found[1].strip('"')


def log_directory(container: containers.Container) -> str:
    """Where its output is kept."""
    return f"{container.directory}/logs"


def exit_code_of(message: str) -> int:
    """The exit status of `run` for an error of the runtime: docker's 127, 126 or 125, by the words it looks for."""
    if "executable file not found" in message or "no such file or directory" in message:
        return 127
    if "permission denied" in message or "is a directory" in message:
        return 126
    return 125
