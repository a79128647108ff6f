"""A container's life: rootfs, files, monitor, network, program; and back, from any point at which it broke off.

`finish` is the way back.  It may be called at any time by anybody and finds out by itself what there is.  conmon calls
it at the end (`mydocker _exited`), stop and rm call it in case nobody did, and start begins with the same.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import time

import pyoci
from pyoci.mydocker import (
    calls,
    clock,
    errors,
    idmap,
    images,
    monitor,
    networks,
    numbers,
    observed,
    preparation,
    processes,
    restart,
    rootless,
    slirp,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyoci.mydocker.containers import Container

_SHM_FLAGS = 0x2 | 0x4 | 0x8  # MS_NOSUID, MS_NODEV, MS_NOEXEC
_DEATH = 10.0  # seconds after SIGKILL


# -- start ------------------------------------------------------------------------------------


def start(container: Container, ready: Callable[[], None] | None = None, *, count: int = 0) -> None:
    """Run a container that does not.  ready: called when the program is about to start, to attach to it.

    count: which restart by its policy this is.  Raises errors.Error, pyoci.Error; then nothing runs, and the
    reason is in its state.
    """
    with container.lock():
        state = container.state()
        if state.alive:
            return
        if container.problem:
            raise errors.Error(f"cannot start container {container.name}: {container.problem}")
        _clean(container)
        fresh = {**observed.FRESH, "restarts": count, "run": secrets.token_hex(8)}
        if count:  # until it runs it is shown as restarting
            fresh["waiter"] = container.facts()["waiter"]
        container.save_facts(**fresh)
        try:
            _start(container, ready)
        except BaseException as error:
            _give_up(container, error)
            raise


def _start(container: Container, ready: Callable[[], None] | None) -> None:
    rootfs = _mount(container)
    made = preparation.make_config(container, rootfs)
    watcher = monitor.Monitor(container)
    watcher.prepare()
    if container.host["ipc"] == "shareable":
        os.mkdir(f"{container.run}/shm", 0o700)
        calls.mount("shm", f"{container.run}/shm", "tmpfs", _SHM_FLAGS, f"mode=1777,size={container.host['shm_size']}")
    pid = watcher.create(made)
    _connect(container, pid)
    if ready:
        ready()
    # before the program runs: should we be killed after it, it has started
    container.save_facts(started=clock.now(), finished=None, monitor=watcher.pid())
    container.runtime.start()


def _give_up(container: Container, error: BaseException) -> None:
    code = error.code if isinstance(error, pyoci.Error) else 125
    _clean(container)
    container.save_facts(started=None, finished=None, exit_code=code, error=str(error))


def _mount(container: Container) -> str:
    store, ids = images.Store(container.paths), idmap.of(container.host)
    try:
        return store.mount_again(container.id, ids)
    except errors.NotFound:  # the command that made the container was killed before
        store.mount(store.resolve(container.image_id), container.id)
        store.unmount(container.id)
        return store.mount_again(container.id, ids)


def _connect(container: Container, pid: int) -> None:
    host = container.host
    if host["network"] in ("host", "none") or host["network"].startswith("container:"):
        return
    if rootless.active():
        if list(container.record["networks"]) != [networks.DEFAULT]:
            raise errors.Error("networks of one's own need root; an ordinary user has `bridge`", code=125)
        slirp.start(container, pid)
        return
    nets = networks.Networks(container.paths)
    for number, (name, wanted) in enumerate(container.record["networks"].items()):
        published = host["ports"] if number == 0 else []
        nets.connect(container, pid, name, ip=wanted["ip"], aliases=wanted["aliases"], wanted_ports=published)


# -- the end ----------------------------------------------------------------------------------


def finish(container: Container) -> observed.State:
    """Write down how it ended, and let go of what it used; nothing is done to one that runs.  Gives its state."""
    with container.lock():
        return _finish(container)


def _finish(container: Container) -> observed.State:
    """The caller holds the lock."""
    state = container.state()
    if not state.alive:
        _clean(container)
        if state.started and not container.facts()["finished"]:
            oom = os.path.exists(f"{container.run}/oom")  # conmon's file
            container.save_facts(finished=state.finished, exit_code=state.exit_code, oom=oom)
    return container.state()


def _clean(container: Container) -> None:
    """Everything that belongs to a run which is over; the caller holds the lock."""
    try:
        container.runtime.delete(force=True)
    except pyoci.NotFound:
        pass
    slirp.stop(container)
    if os.path.ismount(f"{container.run}/shm"):
        calls.umount(f"{container.run}/shm")
    if os.path.isdir(container.paths.networks):
        networks.Networks(container.paths).disconnect(container.id)
    images.Store(container.paths).unmount(container.id)


def exited(container: Container, run: str) -> None:
    """conmon's exit command: finish, then what --rm and --restart ask for.

    run: which run has ended; one that a later start has cleaned up after is nobody's business any more.
    """
    with container.lock():
        if container.facts()["run"] != run:
            return
        before = container.state()
        delay = restart.delay(container.host["restart"], before) if before.started and not before.alive else None
        state = _finish(container)
    if state.alive or not state.started:
        return
    if container.host["auto_remove"]:
        remove(container)
    elif delay is not None:
        restart.later(container, delay)


# -- signals ----------------------------------------------------------------------------------


def kill(container: Container, name: int | str) -> None:
    """Send a signal.  Raises errors.Conflict when it does not run."""
    if not container.state().alive:
        raise errors.Conflict(f"Container {container.id} is not running")
    number = container_signal(name)
    if number in (signal.SIGKILL, container_signal(container.config.get("StopSignal") or "TERM")):
        with container.lock():
            container.save_facts(stopped=True)
    try:
        container.runtime.kill(number)
    except (pyoci.NotFound, pyoci.WrongState):
        raise errors.Conflict(f"Container {container.id} is not running") from None


def container_signal(name: int | str) -> int:
    """A signal by name or number.  Raises errors.UsageError."""
    text = str(name).upper().removeprefix("SIG")
    number = numbers.decimal(text)
    if number and number <= signal.SIGRTMAX:
        return number
    base, _, rest = text.partition("+")
    offset = numbers.decimal(rest)
    if base == "RTMIN" and offset is not None and offset <= signal.SIGRTMAX - signal.SIGRTMIN:
        return signal.SIGRTMIN + offset
    try:
        return int(signal.Signals[f"SIG{text}"])
    except KeyError:
        raise errors.UsageError(f"Invalid signal: {name}", code=1) from None


def stop(container: Container, timeout: float | None = None, name: str | None = None) -> None:
    """Its stop signal, then KILL after timeout seconds (negative: never); no error when it does not run."""
    with container.lock():
        state = container.state()
        if state.alive or state.status == "restarting":
            container.save_facts(stopped=True)
        if state.status == "restarting":
            restart.cancel(container)
    if not state.alive:
        finish(container)
        return
    if timeout is None:
        timeout = container.config.get("StopTimeout", 10)
    start_time = processes.start_time(state.pid)
    _signal(container, name or container.config.get("StopSignal") or "TERM")
    if state.status == "paused":
        _resume(container)
    if not processes.wait(state.pid, start_time, None if timeout < 0 else timeout):
        _signal(container, "KILL")
        if not processes.wait(state.pid, start_time, _DEATH):
            raise errors.Error(f"container {container.name} does not end: process {state.pid} ignores SIGKILL")
    wait_cleaned(container)


def _signal(container: Container, name: str) -> None:
    try:
        container.runtime.kill(container_signal(name))
    except (pyoci.NotFound, pyoci.WrongState):
        return


def _resume(container: Container) -> None:
    try:
        container.runtime.resume()
    except (pyoci.NotFound, pyoci.WrongState):
        return


def wait_cleaned(container: Container) -> observed.State | None:
    """Wait for conmon to be through with a container that has ended, then see to it; None when it was removed."""
    monitor.Monitor(container).wait(_DEATH)
    try:
        return finish(container)
    except errors.NotFound:
        return None


def wait(container: Container, interval: float = 0.2) -> int:
    """Until it has ended for the first time; gives its exit code."""
    while True:
        state = container.state()
        if state.alive:
            processes.wait(state.pid, processes.start_time(state.pid))
            after = wait_cleaned(container)
            return after.exit_code if after else last_exit(container)
        if state.status != "created":
            return state.exit_code
        time.sleep(interval)  # there is nothing yet to wait on


def last_exit(container: Container) -> int:
    """The exit code of a container that --rm has removed, as far as its monitor's file tells."""
    found = container.exit_file()
    return found[0] if found else observed.UNKNOWN_EXIT


# -- removing ---------------------------------------------------------------------------------


def remove(container: Container, *, force: bool = False, volumes: bool = False) -> None:
    """Remove a container, all it changed, and what belongs to it.  Raises errors.Conflict when it runs."""
    state = container.state()
    if state.alive and not force:
        what = "paused" if state.status == "paused" else "running"
        raise errors.Conflict(
            f"You cannot remove a {what} container {container.id}", hint="stop the container first, or use rm -f"
        )
    if state.alive or state.status == "restarting":
        stop(container, 0, "KILL")
    own = container.record.get("anonymous") or []
    with container.lock():
        _clean(container)
        images.Store(container.paths).remove_rootfs(container.id)
        container.forget()
    if volumes or container.host.get("auto_remove"):
        remove_volumes(container, own)


def remove_volumes(container: Container, names: list[str]) -> None:
    """The volumes that were made for it and have no name of their own."""
    from pyoci.mydocker.volumes import Volumes

    store = Volumes(container.paths)
    for name in names:
        try:
            store.remove(name)
        except errors.Error:  # another container uses it, or it is gone
            continue


def discard(container: Container) -> None:
    """Remove one that was only just made, for an error that is about to be shown."""
    try:
        remove(container, force=True, volumes=True)
    except pyoci.Error:
        shutil.rmtree(container.run, ignore_errors=True)
