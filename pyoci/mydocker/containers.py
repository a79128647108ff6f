"""Records of containers, and what they are doing: found by observation, never believed from the record.

container.json is written once, when the container is made, and changed by rename and update only.
state.json is what the last run left: when it started, how it ended, what the user asked of it.
"""

from __future__ import annotations

import builtins
import contextlib
import glob
import os
import re
import secrets
import shutil
import time

import pyoci
from pyoci.mydocker import clock, errors, idmap, inroot, names, observed, processes, records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyoci.mydocker.paths import Paths

_ID = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_NEW = ".new-"
_WAITS = ".awaited-by-"
_NOTICE, _PAUSE = 5.0, 0.01  # seconds that conmon is given to write down an end, and between two looks


class Container:
    """A container by its id.  record: container.json; empty when that cannot be read (problem says why)."""

    def __init__(self, paths: Paths, id: str, record: dict[str, Any], problem: str = "") -> None:
        self.paths = paths
        self.id = id
        self.record = record
        self.problem = problem
        self.directory = f"{paths.containers}/{id}"
        self.run = f"{paths.run}/{id}"
        self.exit_path = f"{paths.run}/exits/{id}"
        self.restarting = f"{self.directory}/restarting"  # a lock: held by `restart` from the stop to the start

    # -- what it is -----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name; the short id when the record cannot be read."""
        return self.record.get("name") or self.id[:12]

    @property
    def image_id(self) -> str:
        """sha256:..."""
        return str(self.record.get("image_id", ""))

    @property
    def config(self) -> dict[str, Any]:
        """docker inspect's Config: Env, Cmd, Entrypoint, User, WorkingDir, Labels ..."""
        return self.record.get("config") or {}

    @property
    def host(self) -> dict[str, Any]:
        """What run was asked for beside that (runspec.py)."""
        return self.record.get("host") or {}

    @property
    def volumes(self) -> builtins.list[str]:
        """Names of the volumes it uses."""
        return [mount["name"] for mount in self.record.get("mounts") or () if mount.get("type") == "volume"]

    @property
    def runtime(self) -> pyoci.Container:
        """The runtime's container.  Raises pyoci.NotFound."""
        return pyoci.Container.open(self.id, root=self.paths.states)

    # -- what it is doing -----------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """state.json, with what is missing filled in."""
        try:
            return {**observed.FRESH, **records.read(f"{self.directory}/state.json")}
        except (FileNotFoundError, records.Broken):
            return dict(observed.FRESH)

    def save_facts(self, **changes: Any) -> None:
        """Change state.json; the caller holds the lock."""
        records.write(f"{self.directory}/state.json", {**self.facts(), **changes})

    def state(self) -> observed.State:
        """Look; and once more when what is written down has changed meanwhile."""
        while True:
            facts = self.facts()
            found = self._look(dict(facts))
            if found.alive or self.facts() == facts:
                return found

    def open_root(self) -> int:
        """A descriptor of its root as its init sees it, which is the caller's to close; -1 when it does not run."""
        while pid := self.state().pid:
            try:
                fd = inroot.open_directory(f"/proc/{pid}/root")
            except (FileNotFoundError, ProcessLookupError):  # it has ended just now
                continue
            if self.state().pid == pid:  # and it was not another process's, with the number of one that had ended
                return fd
            os.close(fd)
        return -1

    def _look(self, facts: dict[str, Any]) -> observed.State:
        """The runtime, then the monitor's exit file, then what was written down."""
        status, pid = self._runtime_status()
        if status in ("running", "paused"):
            return observed.State(status, pid, facts)
        if self.problem:
            return observed.State("dead", 0, facts)
        if processes.alive(*facts["waiter"]) and not facts["stopped"]:
            return observed.State("restarting", 0, facts)
        if facts["started"] is None or status == "created":  # "creating" is also what it says while it is deleted
            return observed.State("created", 0, facts)
        if facts["finished"] is None:
            facts["exit_code"], facts["finished"] = self._end(*facts["monitor"]) or (observed.UNKNOWN_EXIT, clock.now())
        ended = observed.State("exited", 0, facts)
        return observed.State("restarting", 0, facts) if self._about_to_restart(ended) else ended

    def _about_to_restart(self, state: observed.State) -> bool:
        """Its monitor has yet to do what its policy says: leave a process behind that restarts it."""
        from pyoci.mydocker import restart

        return processes.alive(*state.monitor) and restart.delay(self.host["restart"], state) is not None

    def _end(self, pid: int, start: int) -> tuple[int, str] | None:
        """What conmon wrote: it is told of the end when we can see it already, and writes a moment later."""
        deadline = time.monotonic() + _NOTICE
        while True:
            watched = time.monotonic() < deadline and processes.alive(pid, start)
            found = self.exit_file()  # after asking whether it may still come
            if found or not watched:
                return found
            processes.wait(pid, start, _PAUSE)

    def goes_on(self) -> bool:
        """Whether it runs, or has ended and is about to be started again: by its policy, or by `restart`."""
        if self._lives():
            return True
        try:
            with records.Lock(self.restarting, shared=True, wait=False):
                return self._lives()  # once more: the restart may have come between
        except records.Lock.Busy:
            return True
        except errors.StorageError:  # it is removed
            return False

    def _lives(self) -> bool:
        state = self.state()
        return state.alive or state.status == "restarting"

    @property
    def status(self) -> str:
        """See State."""
        return self.state().status

    def _runtime_status(self) -> tuple[str, int]:
        try:
            state = self.runtime.state()
        except (pyoci.Error, OSError):
            return "", 0
        return state["status"], state["pid"]

    def exit_file(self) -> tuple[int, str] | None:
        """What conmon wrote when it saw the end: exit code and time."""
        try:
            with open(self.exit_path, encoding="ascii") as file:
                return int(file.read()) & 0xFF, clock.stamp(os.fstat(file.fileno()).st_mtime)
        except (OSError, ValueError):
            return None

    # -- changing -------------------------------------------------------------------------------

    def lock(self) -> Held:
        """Hold it while changing it.  Raises errors.NotFound when it was removed meanwhile."""
        return Held(self)

    def save(self) -> None:
        """Write container.json; the caller holds the lock."""
        records.write(f"{self.directory}/container.json", self.record)

    def pause(self) -> None:
        """Stop every process of it.  Raises pyoci.WrongState."""
        self._running("pause").pause()

    def unpause(self) -> None:
        """Let it go on.  Raises pyoci.WrongState."""
        self._running("unpause").resume()

    def _running(self, verb: str) -> pyoci.Container:
        state = self.state()
        if verb == "pause" and state.status == "paused":
            raise errors.Conflict(f"Container {self.name} is already paused")
        if verb == "unpause" and state.status != "paused":
            raise errors.Conflict(f"Container {self.name} is not paused")
        if not state.alive:
            raise errors.Conflict(f"Container {self.name} is not running")
        return self.runtime

    def rename(self, name: str) -> None:
        """Give it another name.  Raises errors.Conflict, errors.UsageError."""
        check_name(name)
        with names_lock(self.paths), self.lock():
            _check_free(self.paths, name)
            self.record = {**records.read(f"{self.directory}/container.json"), "name": name}
            self.save()

    def forget(self) -> None:
        """Remove the record: the last step of rm.  Should we be killed before it is gone, another rm does the rest."""
        gone = f"{self.paths.containers}/{_NEW}{self.id}"
        shutil.rmtree(self.run, ignore_errors=True)
        self._remove_exit()
        os.rename(self.directory, gone)  # at once, for who looks
        self._remove_exit()  # who waited for it has left it to us until then
        shutil.rmtree(gone, ignore_errors=True)

    def _remove_exit(self) -> None:
        if not self._awaited():
            records.remove(self.exit_path)

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Inside, its exit code is kept although the container may be removed: somebody is about to ask for it."""
        marker = f"{self.exit_path}{_WAITS}{os.getpid()}"  # no name that conmon's temporary file may have
        os.makedirs(os.path.dirname(marker), 0o700, exist_ok=True)
        with open(marker, "wb"):
            pass
        try:
            yield
        finally:
            records.remove(marker)
            if not os.path.exists(self.directory):
                self._remove_exit()

    def _awaited(self) -> bool:
        """Whether somebody does; marks of killed commands go."""
        found = False
        for marker in glob.glob(f"{self.exit_path}{_WAITS}*"):
            if os.path.exists(f"/proc/{marker.rpartition(_WAITS)[2]}"):
                found = True
            else:
                records.remove(marker)
        return found


class Held:
    """The lock of one container."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self._lock = records.Lock(f"{container.directory}/lock")

    def __enter__(self) -> Container:
        if not os.path.isdir(self.container.directory):
            raise missing(self.container.name)
        self._lock.__enter__()
        if not os.path.exists(self._lock.path):
            self._lock.__exit__()
            raise missing(self.container.name)
        return self.container

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__()


def missing(text: str) -> errors.NotFound:
    """docker's words."""
    return errors.NotFound(f"No such container: {text}")


# -- the set of all ---------------------------------------------------------------------------


def names_lock(paths: Paths) -> records.Lock:
    """Held by who gives a name."""
    return records.Lock(f"{paths.containers}/.lock")


def check_name(name: str) -> None:
    """Raises errors.UsageError for what is no name: it becomes part of host names and of what people type."""
    if not _NAME.fullmatch(name):
        raise errors.UsageError(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        )


def _check_free(paths: Paths, name: str) -> None:
    for other in list(paths):
        if other.name == name:
            raise errors.Conflict(
                f'The container name "/{name}" is already in use by container "{other.id}"',
                hint="remove or rename that container to reuse the name",
                code=125,
            )


def create(paths: Paths, record: dict[str, Any], name: str | None) -> Container:
    """Write the record of a new container, under a name that is free.  Raises errors.Conflict."""
    if name is not None:
        check_name(name)
    with names_lock(paths):
        _sweep(paths)
        if name is None:
            taken = {container.name for container in list(paths)}
            name = names.choose(taken)
        else:
            _check_free(paths, name)
        if wanted := record["host"].get("userns"):
            record["host"]["userns"] = idmap.choose(wanted["size"], [container.host for container in list(paths)])
        id = secrets.token_hex(32)
        made = {**record, "id": id, "name": name, "created": clock.now()}
        temporary = f"{paths.containers}/{_NEW}{id}"
        os.mkdir(temporary, 0o711)
        records.write(f"{temporary}/container.json", made)
        records.write(f"{temporary}/state.json", observed.FRESH)
        os.rename(temporary, f"{paths.containers}/{id}")  # from here on it exists, whatever happens to us
        records.sync_directory(paths.containers)
    return Container(paths, id, made)


def _sweep(paths: Paths) -> None:
    """Remove what killed commands left of containers that were not there yet, or no longer."""
    for name in os.listdir(paths.containers):
        if name.startswith(_NEW):
            shutil.rmtree(f"{paths.containers}/{name}", ignore_errors=True)


def list(paths: Paths) -> builtins.list[Container]:
    """Every container, the newest first; one whose record cannot be read hides no other."""
    found = [*_scan(paths)]
    return sorted(found, key=lambda container: str(container.record.get("created", "")), reverse=True)


def _scan(paths: Paths) -> Iterator[Container]:
    try:
        ids = os.listdir(paths.containers)
    except FileNotFoundError:
        return
    for id in ids:
        if _ID.fullmatch(id):
            try:
                yield load(paths, id)
            except errors.NotFound:
                continue  # removed meanwhile


def load(paths: Paths, id: str) -> Container:
    """The container of an id.  Raises errors.NotFound."""
    try:
        record = records.read(f"{paths.containers}/{id}/container.json")
        if record.get("id") != id or not isinstance(record.get("config"), dict):
            raise records.Broken(f"{paths.containers}/{id}/container.json is of another container")
    except FileNotFoundError:
        if not os.path.isdir(f"{paths.containers}/{id}"):
            raise missing(id) from None
        return Container(paths, id, {}, "container.json is missing")
    except records.Broken as error:
        return Container(paths, id, {}, str(error))
    return Container(paths, id, record)


def find(paths: Paths, text: str) -> Container:
    """By id, name, or the beginning of an id that only one has.  Raises errors.NotFound, errors.Conflict."""
    if not _NAME.fullmatch(text.removeprefix("/")):
        raise missing(text)
    text = text.removeprefix("/")
    if _ID.fullmatch(text):
        return load(paths, text)
    everything = list(paths)
    for container in everything:
        if container.record.get("name") == text:
            return container
    fitting = [container for container in everything if container.id.startswith(text)]
    if len(fitting) > 1:
        raise errors.Conflict(f"multiple IDs found with provided prefix: {text}")
    if not fitting:
        raise missing(text)
    return fitting[0]
