"""What several verbs do alike: reach a container, make one."""

from __future__ import annotations

from pyoci import container, errors, json, kernel
from pyoci.cli import options
from pyoci.cli.log import LOG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def find(given: options.Parsed, id: str) -> container.Container:
    """The container of that id.  Raises errors.NotFound."""
    return container.Container.open(id, root=given.text("root") or None)


def each(ids: list[str], work: Callable[[str], None]) -> None:
    """Do work with each of these ids.

    One that fails does not keep the others from their turn: the last error is raised when all have had it, and
    those before are logged.
    """
    failure: errors.Error | None = None
    for id in ids:
        try:
            work(id)
        except errors.Error as error:
            if len(ids) > 1:
                error.message = f"{id}: {error.message}"
            if failure:
                LOG.error(str(failure))
            failure = error
    if failure:
        raise failure


def named(given: options.Parsed, opts: options.Parsed, words: list[str]) -> list[str]:
    """The ids that the words are, or with --regex those in which one of them is found as a regular expression.

    Raises errors.UsageError for what is no regular expression.
    """
    if not opts.flag("regex"):
        return words
    import re

    try:
        wanted = [re.compile(pattern) for pattern in words]
    except re.error as error:
        raise errors.UsageError(f"invalid regular expression: {error}") from None
    from pyoci import container_list

    ids = container_list.ids(given.text("root") or None)
    return [id for id in ids if any(pattern.search(id) for pattern in wanted)]


def make(
    given: options.Parsed, opts: options.Parsed, console: Callable[[int], None] | None = None
) -> container.Container:
    """Create the container that `create` and `run` ask for.  console: takes the master of its pty, if one stays to."""
    sockets, variables = listening()
    return container.Container.create(
        opts.args[0],
        console=console,
        env=variables,
        preserve_fds=sockets + opts.number("preserve-fds"),
        no_pivot=opts.flag("no-pivot"),
        no_new_keyring=opts.flag("no-new-keyring"),
        notify=bool(kernel.variable("NOTIFY_SOCKET")),
        rootless={"true": True, "false": False}.get(given.text("rootless")),
        **places(given, opts),
    )


def places(given: options.Parsed, opts: options.Parsed) -> dict[str, Any]:
    """What `create`, `run` and `restore` are told alike: where the bundle is, who makes cgroups, what goes where."""
    return {
        "bundle": opts.text("bundle") or None,
        "config_path": opts.text("config") or None,
        "root": given.text("root") or None,
        "pid_file": opts.text("pid-file") or None,
        "pidfd_socket": opts.text("pidfd-socket") or None,
        "console_socket": opts.text("console-socket") or None,
        "cgroup_manager": manager(given),
    }


def listening() -> tuple[int, list[str]]:
    """How many descriptors from 3 on are sockets that systemd, or an engine for it, opened for the program, and
    the variables that tell it so; it is process 1 of its container.  See sd_listen_fds(3).  Descriptors of
    --preserve-fds come after them."""
    count = json.decimal(kernel.variable("LISTEN_FDS"))
    if not count or kernel.variable("LISTEN_PID") not in ("", str(kernel.getpid())):
        return 0, []
    names = kernel.variable("LISTEN_FDNAMES")
    return count, [f"LISTEN_FDS={count}", "LISTEN_PID=1", *([f"LISTEN_FDNAMES={names}"] if names else [])]


def start(of: container.Container) -> None:
    """Start it; with a service manager that waits for it, return when the program says that it is ready."""
    notify = of.notifying(kernel.variable("NOTIFY_SOCKET"))
    if notify is None:
        of.start()
        return
    with notify:
        of.start()
        notify.wait_ready(of.pidfd)


def manager(given: options.Parsed) -> str:
    """Who makes cgroups."""
    return given.text("cgroup-manager") or ("systemd" if given.flag("systemd-cgroup") else "cgroupfs")


def report(of: container.Container) -> None:
    """Tell what was not as asked, when the verb has succeeded: beside an error engines want no other line."""
    LOG.warnings(of.warnings)
