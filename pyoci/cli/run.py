"""pyoci run: create and start, and in the foreground wait and delete."""

from __future__ import annotations

from pyoci import errors, kernel
from pyoci.cli import common, options
from pyoci.cli.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyoci.container import Container
    from pyoci.host.foreground import Foreground

ARGS = ("CONTAINER-ID",)
OPTIONS = (
    *options.CREATE,
    options.DETACH,
    Option("keep", "do not delete the container when it has ended"),
    options.NO_SUBREAPER,
)
HELP = """\
In the foreground signals go to the container, its terminal (process.terminal) is this one, and the
exit status is that of its program: 128 + N when signal N ended it.
"""


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Run the container."""
    if opts.flag("detach"):
        container = common.make(given, opts)
        pid = pid_told(container, opts)
        try:
            common.start(container)
        except BaseException as error:
            discard(container, opts, pid, error)
            raise
        common.report(container)
        return 0
    return foreground(opts, lambda console: common.make(given, opts, console), start)


def start(container: Container, front: Foreground) -> None:
    """Start it, its notifications through here."""
    front.notify = container.notifying(kernel.variable("NOTIFY_SOCKET"))
    container.start()


def foreground(
    opts: options.Parsed,
    make: Callable[[Callable[[int], None]], Container],
    start: Callable[[Container, Foreground], None] | None = None,
) -> int:
    """Run a container to its end; returns its exit status.

    make: makes it, given what takes the master of its pty, if one stays
    start: starts it, when it does not run yet
    """
    from pyoci.host.foreground import Foreground

    with Foreground() as front:
        container = make(front.attach)
        pid = pid_told(container, opts)
        try:
            reap = not opts.flag("no-subreaper") and become_subreaper(container)
            front.listen(front.attached, reap)  # the program may ask for a signal as soon as it runs
            if start:
                start(container, front)
            front.wait(container.pidfd)
            status = container.wait()
        except BaseException as error:
            discard(container, opts, pid, error)
            raise
    if not opts.flag("keep"):
        remove(container)
    common.report(container)
    return status


def remove(container: Container) -> None:
    """Delete a container that has ended: without a pid namespace others may have outlived its first process."""
    try:
        container.delete(force=True)
    except errors.NotFound:
        pass  # somebody else has: how its program ended is to be told all the same


def become_subreaper(container: Container) -> bool:
    """Inherit the orphans of a container without a pid namespace, whose init does not; True when there may be some."""
    namespaces = container.config.get("linux", {}).get("namespaces", ())
    if any(namespace["type"] == "pid" for namespace in namespaces):
        return False
    from pyoci import cold

    try:
        cold.load("prctl").set_child_subreaper(1)
    except errors.SetupError:
        return False  # python-prctl is not installed: the system's first process reaps them
    return True


def pid_told(container: Container, opts: options.Parsed) -> int:
    """The pid that is in the pid file, 0 when none was asked for."""
    return container.pid if opts.text("pid-file") else 0


def discard(container: Container, opts: options.Parsed, pid: int, error: BaseException) -> None:
    """Undo what was begun; the error that made it necessary is the one to show."""
    from pyoci import container_shared

    try:
        container.delete(force=True)
    except errors.NotFound:
        pass  # a start that fails deletes it
    except (errors.Error, OSError) as second:
        error.add_note(f"while cleaning up: {second}")
    if pid:
        container_shared.attempt(error, container_shared.remove_pid_file, opts.text("pid-file"), pid)
