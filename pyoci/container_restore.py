"""restore: a container from the files of a checkpoint, by the criu program."""

from __future__ import annotations

from pathlib import Path

from pyoci import container_create, errors, json, kernel
from pyoci import container_shared as shared
from pyoci.container_checkpoint import DESCRIPTORS, DEVICES, OURS
from pyoci.host import cgroup_make, cgroup_options, criu, helper
from pyoci.host import state as states
from pyoci.plan import criu as plan_criu
from pyoci.plan import criu_rpc, ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.bundle import Bundle

# criu mounts the container's root there, in a mount namespace of its own: an empty directory, which goes with the state
ROOT = "root"


class Restoration(container_create.Creation):
    """One restore: like create, but that criu makes the processes."""

    __slots__ = ("program", "wanted")

    def __init__(
        self, request: container_create.Request, bundle: Bundle, wanted: plan_criu.Wanted, program: str
    ) -> None:
        super().__init__(request, bundle)
        self.wanted = wanted
        self.program = criu.find(program)
        wanted.config = wanted.config or criu.config(self.record["annotations"])

    def _launch(self) -> None:
        assert self.directory
        self.close_fds()
        self.directory.unlink(states.FIFO_NEW)  # nothing waits for start
        criu.directory(self.wanted.work)
        if self.plan.cgroup and not self.plan.cgroup.unit:  # first: binds of it are among what makes the mount points
            cgroup_make.create(self.plan.cgroup)
        if self.plan.namespaces.get("mount") == "":
            helper.Helper(plan_criu.mount_points(self.plan)).run()
        root = f"{self.directory.path}/{ROOT}"
        kernel.mkdir(root, 0o700)
        with cgroup_options.kept(self.warnings):
            self._restore(root)
        kernel.rmdir(root)
        assert self.init
        self.hand_out(self.init)
        self.save_verbs()

    def _restore(self, root: str) -> None:
        """Have criu do it.  root: an empty directory."""
        namespaces = self._namespaces()
        mount = (self.plan.rootfs, root)
        try:
            options = plan_criu.restore(self.wanted, self.plan, root, self._mounts(), namespaces, self._stdio())
            fds = list(namespaces.values())
            with criu.Service(self.program, self.wanted, options, mount, fds=fds) as service:
                answer = service.ask(criu_rpc.RESTORE, self._notify)
        finally:
            for fd in namespaces.values():
                kernel.close(fd)
        if not self.init:  # there were no namespaces to set up
            self._found(answer["restore"]["pid"])

    def _notify(self, event: str, pid: int, fd: int) -> None:
        """criu waits for us."""
        if event == "setup-namespaces":
            self._found(pid)
        elif event == "orphan-pts-master" and self.plan.terminal:
            self.console(fd)
        elif fd >= 0:
            kernel.close(fd)

    def _namespaces(self) -> dict[str, int]:
        """The namespaces that are joined by path, open."""
        found: dict[str, int] = {}
        for kind in plan_criu.OUTSIDE:
            path = self.plan.namespaces.get(kind)
            if path:
                found[kind] = shared.open_descriptor(f"ns:{kind}:{path}", self.plan)
        return found

    def _mounts(self) -> dict[str, str]:
        """The mounts that are not the container's: mount point -> source, which is that of the bundle of now."""
        sources = plan_criu.binds(self.plan)
        mounts = {
            point: sources.get(dest, "")
            for point, dest in self._saved("binds", {dest: dest for dest in sources}).items()
        }
        devices = self._saved("devices", {})
        # the images say where they were mounted, and not what else of the host could be
        known = {point: source for point, source in devices.items() if source in DEVICES}
        return {**known, **{point: source for point, source in mounts.items() if source}}

    def _saved(self, name: str, empty: dict[str, str]) -> dict[str, str]:
        """What checkpoint has noted; empty for images of another runtime."""
        value = load(self.wanted.images, OURS, {}).get(name, empty)
        return {key: text for key, text in value.items() if isinstance(text, str)} if isinstance(value, dict) else empty

    def _stdio(self) -> dict[int, str]:
        """Which of our stdin, stdout and stderr take the place of what criu calls by these names."""
        found: dict[int, str] = {}
        for fd, name in enumerate(load(self.wanted.images, DESCRIPTORS, [])[:3]):
            name = name if isinstance(name, str) and name.startswith("pipe:") else ""  # noqa: PLW2901
            name = self._saved("stdio", {}).get(str(fd), name)  # noqa: PLW2901
            if name:
                found[fd] = name
        if found.get(0) in (found.get(1), found.get(2)):  # one file under the same name: what is said counts
            found.pop(0, None)
        return found

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
