"""restore: a container from the files of a checkpoint, by the criu program."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from pyoci import container_create, errors, json, kernel
from pyoci import container_shared as shared
from pyoci.container_checkpoint import DESCRIPTORS, OURS
from pyoci.host import cgroup_make, criu
from pyoci.host import state as states
from pyoci.plan import criu as plan_criu
from pyoci.plan import ops, verbs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.bundle import Bundle

# criu wants a root that is a mount point.  In a mount namespace of its own the mount goes with the process; slave:
# nothing comes back to the host.  exec: criu is our own child, and with --restore-sibling so is the container's init.
WRAPPER = ("unshare", "--mount", "--propagation", "slave", "sh", "-c")
SCRIPT = 'mount --rbind "$1" "$2" && shift 2 && exec "$@"'
# criu waits for its action scripts: this one asks us to run the hooks that belong between namespaces and program
ACTION = """#!/bin/sh
[ "$CRTOOLS_SCRIPT_ACTION" = setup-namespaces ] || exit 0
echo "$CRTOOLS_INIT_PID" >"{directory}/asked"
read -r answer <"{directory}/answer"
exit "$answer"
"""


class Restoration(container_create.Creation):
    """One restore: like create, but that criu makes the processes."""

    __slots__ = ("program", "wanted")

    def __init__(
        self, request: container_create.Request, bundle: Bundle, wanted: plan_criu.Wanted, program: str
    ) -> None:
        super().__init__(request, bundle)
        if self.plan.terminal:
            raise errors.SetupError(
                "a container with a terminal cannot be restored: criu hands terminals out over RPC only",
                where="/process/terminal",
            )
        self.wanted = wanted
        self.program = criu.find(program)
        wanted.config = wanted.config or criu.config(self.record["annotations"])

    def _launch(self) -> None:
        assert self.directory
        self.close_fds()
        self.directory.unlink(states.FIFO_NEW)  # nothing waits for start
        if self.plan.cgroup and not self.plan.cgroup.unit:
            cgroup_make.create(self.plan.cgroup)
        criu.directory(self.wanted.work)
        with tempfile.TemporaryDirectory(prefix="pyoci-restore-") as place:
            self._restore(place)
        assert self.init
        self.hand_out(self.init)
        document = self.directory.document(self.record, "stopped")
        self.directory.write(states.VERBS, ops.encode(verbs.make(self.record, document, states.FILES)))

    def _restore(self, place: str) -> None:
        root = f"{place}/root"
        os.mkdir(root)
        script = Path(place, "action")
        script.write_text(ACTION.format(directory=place), encoding="utf-8")
        script.chmod(0o700)
        for name in ("asked", "answer"):
            os.mkfifo(f"{place}/{name}", 0o600)
        namespaces = self._namespaces()
        try:
            argv = plan_criu.restore(self.wanted, self.plan, root, self._saved("masked", []), namespaces, self._stdio())
            argv += ["--pidfile", f"{place}/pid", "--action-script", str(script)]
            self._run([*WRAPPER, SCRIPT, "sh", self.plan.rootfs, root, self.program, *argv], place, namespaces)
        finally:
            for fd in namespaces.values():
                kernel.close(fd)
        if not self.init:  # no script was called: there are no namespaces to set up
            self._found(int(Path(place, "pid").read_text(encoding="ascii")))

    def _namespaces(self) -> dict[str, int]:
        """The namespaces that are joined by path, open."""
        found: dict[str, int] = {}
        for kind in plan_criu.OUTSIDE:
            path = self.plan.namespaces.get(kind)
            if path:
                found[kind] = shared.open_descriptor(f"ns:{kind}:{path}", self.plan)
        return found

    def _saved(self, name: str, empty: Any) -> Any:
        """What checkpoint has noted; empty for images of another runtime."""
        value = load(self.wanted.images, OURS, {}).get(name, empty)
        return value if isinstance(value, type(empty)) else empty

    def _stdio(self) -> dict[int, str]:
        """Which of our stdin, stdout and stderr take the place of what criu calls by these names."""
        found: dict[int, str] = {}
        for fd, name in enumerate(load(self.wanted.images, DESCRIPTORS, [])[:3]):
            name = name if isinstance(name, str) and name.startswith("pipe:") else ""  # noqa: PLW2901
            name = self._saved("stdio", {}).get(str(fd), name)  # noqa: PLW2901
            if name and name not in found.values():
                found[fd] = name
        return found

    def _run(self, command: list[str], place: str, namespaces: dict[str, int]) -> None:
        # open both ways: no end of the FIFOs ever waits for the other to be opened
        asked, answer = (os.open(f"{place}/{name}", os.O_RDWR | os.O_CLOEXEC) for name in ("asked", "answer"))
        try:
            child = subprocess.Popen(command, env=criu.environment(), pass_fds=list(namespaces.values()))
            failure = self._serve(child, asked, answer)
        finally:
            os.close(asked)
            os.close(answer)
        if failure:
            raise failure
        if child.returncode:
            log = f"{self.wanted.work}/restore.log"
            raise criu.failure(self.program, "restore", child.returncode, log)

    def _serve(self, child: subprocess.Popen[bytes], asked: int, answer: int) -> errors.Error | None:
        """Run the hooks when criu asks for them, until it has ended.  Returns what a hook failed with."""
        import select

        pidfd = kernel.pidfd_open(child.pid)
        failure: errors.Error | None = None
        try:
            while child.poll() is None:
                poller = select.poll()
                poller.register(pidfd, select.POLLIN)
                poller.register(asked, select.POLLIN)
                if asked in dict(poller.poll()):
                    try:
                        self._found(int(os.read(asked, 64)))
                    except errors.Error as error:
                        failure = error
                    os.write(answer, b"1\n" if failure else b"0\n")
        finally:
            kernel.close(pidfd)
        return failure

    def _found(self, pid: int) -> None:
        """init is there."""
        self.runner.pid = pid  # ours to kill and reap when something fails
        self.forked(pid)
        self.sync(ops.SYNC_HOOKS)


def load(directory: str, name: str, empty: Any) -> Any:
    """A value that checkpoint has saved beside the images, empty when it has not.  Raises errors.SetupError."""
    try:
        value = json.loads(Path(directory, name).read_bytes(), name)
    except FileNotFoundError:
        return empty
    except (OSError, errors.InvalidConfig) as error:
        raise errors.SetupError(f"read {directory}/{name}: {error}") from None
    return value if isinstance(value, type(empty)) else empty
