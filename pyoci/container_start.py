"""start and delete: what becomes of a container after create."""

from __future__ import annotations

from pyoci import errors
from pyoci.host import fifo, hooks
from pyoci.host import state as states

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from typing import Any

    from pyoci.host.process import Process
else:
    import _signal

_PATIENCE = (0.1, 0.4, 0.5, 1.0, 2.0, 2.0, 4.0)  # seconds that a process is given to die of SIGKILL


def oci_state(record: dict[str, Any], status: str, pid: int = 0) -> dict[str, Any]:
    """The state of the runtime-spec, as hooks get it (L17: pid as the runtime sees it; none once it has ended)."""
    state = {"ociVersion": record["ociVersion"], "id": record["id"], "status": status}
    if pid:
        state["pid"] = pid
    state["bundle"] = record["bundle"]
    state["annotations"] = record["annotations"]
    return state


# -- start ------------------------------------------------------------------------------------------

_NOT_CREATED = {
    "stopped": "cannot start a container that has stopped",
    "running": "cannot start an already running container",
    "paused": "cannot start a paused container",
    "creating": "cannot start a container that is still being created",
}


def start(directory: states.Directory, record: dict[str, Any], init: Process, warnings: list[str]) -> None:
    """Let init go on to the program.  directory: locked.  See Container.start."""
    said = _said(directory)
    status = "created" if said else directory.activity(record)
    if status != "created":
        raise errors.WrongState(_NOT_CREATED[status])
    if not record["process"]:  # L05
        raise errors.WrongState("cannot start a container without a process", where="/process")
    try:
        _check_gone(record, said or fifo.drain(directory))
        directory.unlink(states.FIFO)  # before the hooks: whoever asks now is told that it runs
        if record["hooks"].get("poststart"):
            hooks.run(record["hooks"], "poststart", oci_state(record, "running", record["pid"]))
    except errors.Error:
        _end(directory, record, init)
        _destroy(directory, record, warnings)
        raise


def _said(directory: states.Directory) -> bytes:
    """What the launcher, which has no words, heard when it let init go and that failed; b"" when it did not."""
    return directory.read(states.SAID) if directory.has(states.SAID) else b""


def _check_gone(record: dict[str, Any], said: bytes) -> None:
    """Raises what init said instead of becoming the program."""
    if not said:
        raise errors.SetupError("the container's process ended before it was started")
    if len(said) == 1:
        return
    from pyoci.host import nsexec, words

    message = nsexec.Message(said[1:])
    sentence, where = record["steps"].get(str(message.op), ["start the program", ""])
    if message.kind == nsexec.HOOK_FAILED:
        raise errors.HookError(words.join(sentence, words.hook_fate(message.value), message.text), where=where)
    reason = errors.errno_text(message.value)
    raise errors.SetupError(words.join(sentence, message.text, reason), errno=message.value, where=where)


# -- delete -----------------------------------------------------------------------------------------


def delete(
    directory: states.Directory,
    process: Callable[[dict[str, Any]], Process],
    force: bool,
    warnings: list[str],
) -> None:
    """Remove the container.  directory: not locked.  process: init of a record.  See Container.delete."""
    if force:  # before we wait for the lock: whoever holds it may be waiting for init
        _end(directory, *_record(directory, process, warnings))
    directory.lock()
    record, init = _record(directory, process, warnings) if force else _stopped(directory, process)
    _end(directory, record, init)
    _destroy(directory, record, warnings)


def _stopped(
    directory: states.Directory, process: Callable[[dict[str, Any]], Process]
) -> tuple[dict[str, Any], Process]:
    record = directory.load()
    status = directory.status(record)
    if status not in ("stopped", "created"):  # created: the spec says no, but containerd relies on it
        raise errors.WrongState(f"cannot delete container {directory.id} that is not stopped: {status}")
    return record, process(record)


def _record(
    directory: states.Directory, process: Callable[[dict[str, Any]], Process], warnings: list[str]
) -> tuple[dict[str, Any], Process]:
    """The facts as far as they are to be had: --force removes a damaged state too."""
    try:
        record = directory.load()
    except errors.WrongState as error:
        warnings.append(str(error))
        record = {}
    return record, process(record)


def _end(directory: states.Directory, record: dict[str, Any], init: Process) -> None:
    """Kill init, and wait until it has ended; reap it when it is our child."""
    killed = init.signal(_signal.SIGKILL) and record["cgroup"]
    for seconds in _PATIENCE:
        if killed:  # a process that is frozen does not die, and as long as some live they may freeze each other
            from pyoci.host import cgroup

            cgroup.thaw_all(record["cgroup"])
        try:
            init.wait(seconds)
            return
        except TimeoutError:
            continue
    raise errors.WrongState(
        f"container {directory.id} does not end: process {init.pid} ignores SIGKILL",
        hint="the parent of a process that joined the container may not have reaped it",
    )


def _destroy(directory: states.Directory, record: dict[str, Any], warnings: list[str]) -> None:
    remove(directory, record, warnings)
    if record.get("hooks", {}).get("poststop"):
        warnings += hooks.run_all(record["hooks"], "poststop", oci_state(record, "stopped"))


def remove(directory: states.Directory, record: dict[str, Any], warnings: list[str]) -> None:
    """Remove what create made: the cgroups with what is left in them, then the state.  init has ended."""
    if record.get("cgroup"):
        from pyoci.host import cgroup_remove

        cgroup_remove.destroy(record["cgroup"])
        if record["cgroup"].get("systemd"):
            _stop_scope(record["cgroup"]["systemd"], warnings)
    if record.get("rdt"):
        from pyoci.host import rdt

        rdt.destroy(record["rdt"])
    directory.remove()


def _stop_scope(scope: dict[str, Any], warnings: list[str]) -> None:
    """Have systemd end it before we return.  It is without a cgroup, which systemd notices by itself as well: where
    nobody answers (a user who has logged out) the container can go all the same."""
    from pyoci.host import systemd

    try:
        systemd.stop(scope)
    except errors.SetupError as error:
        warnings.append(f"{scope['unit']} may still be there: {error}")
