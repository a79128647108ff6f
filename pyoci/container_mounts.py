"""mounts add, mounts remove: more or fewer mounts for a container that runs."""

from __future__ import annotations

import contextlib

from pyoci import bundle, container_exec, errors, kernel, spec
from pyoci import container_shared as shared
from pyoci.host import facts, nsexec
from pyoci.plan import make_mounts, make_unmounts
from pyoci.plan.options import Options, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from pyoci.host.process import Process
    from pyoci.host.state import Directory
    from pyoci.plan import Plan


ADDED = "added"  # in state.json: destination -> the numbers of the mounts that were added there, the topmost last


def add(directory: Directory, init: Process, mounts: Sequence[dict[str, Any]]) -> list[str]:
    """See Container.mount.  Returns warnings.

    One at a time, as only so it is known which mount is whose; of those before one that fails none stays.
    """
    record, config = prepare(directory)
    warnings: list[str] = []
    added = record.setdefault(ADDED, {})
    done: list[tuple[str, int]] = []
    with told():
        spec.refuse(spec.check({**config, "mounts": list(mounts)}))
    target, options, machine = target_of(init), options_of(record, directory, init), facts.read()
    plans = []
    for index, mount in enumerate(mounts):
        with told(index):
            plans.append(make_mounts([absolute(mount, record["bundle"])], config, target, machine, options))
    try:
        for index, plan in enumerate(plans):
            before = numbers(init)
            with told(index):
                warnings += run(plan, init)
            destination = mounts[index]["destination"]
            for number in tops(before, numbers(init)):
                done.append((destination, number))
                added.setdefault(destination, []).append(number)
        directory.save(record)
    except BaseException as error:
        if done:
            shared.attempt(error, lambda: run(make_unmounts(done, config, target, machine, options), init))
        raise
    return warnings


def remove(directory: Directory, init: Process, destinations: Sequence[str]) -> list[str]:
    """See Container.unmount.  Returns warnings."""
    record, config = prepare(directory)
    added = record.get(ADDED) or {}
    left = {destination: list(found) for destination, found in added.items()}
    wanted = [(name, left[name].pop() if left.get(name) else 0) for name in reversed(destinations)]
    wanted.reverse()
    with told():
        options = options_of(record, directory, init)
        warnings = run(make_unmounts(wanted, config, target_of(init), facts.read(), options), init)
    record[ADDED] = {destination: found for destination, found in left.items() if found}
    if added:
        directory.save(record)
    return warnings


def prepare(directory: Directory) -> tuple[dict[str, Any], dict[str, Any]]:
    """The state and the config of a container that runs, locked.  Raises errors.WrongState."""
    directory.lock()
    record = directory.load()
    status = directory.status(record)
    if status not in ("created", "running", "paused"):
        raise errors.WrongState(f"container not running: it is {status}")
    return record, shared.record_config(directory)


@contextlib.contextmanager
def told(index: int = 0) -> Iterator[None]:
    """An error names a place in what was given, which is not config.json; index: of the only mount there is."""
    try:
        yield
    except errors.Error as error:
        if error.where:
            where = f"/mounts/{index}" + error.where.removeprefix("/mounts/0") if index else error.where
            error.message += f" ({where} of the mounts)"
            error.where = ""
        raise


def numbers(init: Process) -> dict[str, str]:
    """The mounts of a process by number, and those that they are mounted on.

    Raises errors.WrongState, errors.SetupError.
    """
    try:
        with open(f"/proc/{init.pid}/mountinfo", "rb") as file:
            return dict(line.decode("ascii", "replace").split(" ", 2)[:2] for line in file)
    except OSError as error:
        check_running(init)
        raise errors.failed(f"read /proc/{init.pid}/mountinfo", error) from None


def tops(before: dict[str, str], after: dict[str, str]) -> list[int]:
    """Those that are new and on no new one: what is below a recursive bind goes with it."""
    new = {number: on for number, on in after.items() if number not in before}
    return [int(number) for number, on in new.items() if on not in new]


def absolute(mount: dict[str, Any], directory: str) -> dict[str, Any]:
    """A mount whose source, if that is a path, is absolute: relative ones are in the bundle."""
    source = mount.get("source")
    if not source or not bundle.is_bind(mount):
        return mount
    return {**mount, "source": kernel.join(directory, source)}


def target_of(init: Process) -> Target:
    """What is to be joined.  Raises errors.WrongState."""
    target = Target(init.pid, container_exec.namespaces(init.pid))
    check_running(init)
    if "mount" not in target.namespaces:
        raise errors.WrongState("the container has no mount namespace of its own")
    return target


def check_running(init: Process) -> None:
    """Raises errors.WrongState when it has ended: then its number says nothing any more."""
    if not init.running():
        raise errors.WrongState("container not running")


def options_of(record: dict[str, Any], directory: Directory, init: Process) -> Options:
    names = shared.names(f"/proc/{init.pid}/root")
    return Options(record["id"], record["bundle"], directory=directory.path, names=names)


def run(plan: Plan, init: Process) -> list[str]:
    """Carry it out.  Returns warnings.  Raises errors.SetupError."""
    runner = nsexec.Runner(plan.ops)
    fds: list[int] = []
    try:
        try:
            for name in plan.fds:
                fds.append(shared.open_descriptor(name, plan))
        finally:
            check_running(init)  # asked after the namespaces were opened: so they were those of init
        runner.spawn((0, 2, 2))
        runner.send_plan(fds)
        runner.run(nsexec.Host())
        fate = nsexec.reap(runner.pid)
        runner.pid = 0
    finally:
        runner.abort()
        for fd in fds:
            kernel.close(fd)
    if fate != "exit status 0":
        raise errors.SetupError(f"nsexec ended early: {fate}")
    return plan.warnings + runner.warnings
