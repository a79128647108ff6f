"""create: from a bundle to a container that waits for start.  One class; each step, and what undoes all of them."""

from __future__ import annotations

import time

from pyoci import bundle as bundles
from pyoci import container_shared as shared
from pyoci import errors, kernel, spec
from pyoci.container_start import oci_state, remove
from pyoci.host import cgroup, cgroup_make, facts, fifo, hooks, maps, process
from pyoci.host import state as states
from pyoci.plan import make as make_plan
from pyoci.plan import ops, verbs
from pyoci.plan.options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pyoci.host.netdev import Moved


# What a test may put in: called after each step with its name; what it raises fails the create there.
after_step: Callable[[str], None] | None = None


def _step(name: str) -> None:
    if after_step is not None:
        after_step(name)


class Request(shared.Request):
    """What create was asked for; see Container.create."""

    __slots__ = ("cgroup_manager", "env", "id", "no_new_keyring", "no_pivot", "notify", "root", "rootless")

    def __init__(self, id: str, root: str | None, stdio: Sequence[int]) -> None:
        """Raises errors.InvalidConfig for what is no id."""
        super().__init__(stdio)
        spec.check_id(id)
        self.id = id
        self.root = states.absolute(root)
        self.env: Sequence[str] = ()
        self.no_pivot = False
        self.no_new_keyring = False
        self.cgroup_manager = "cgroupfs"
        self.rootless: bool | None = None
        self.notify = False


def read_bundle(bundle: str | None, config: dict[str, Any] | None, config_path: str | None) -> bundles.Bundle:
    """The bundle that create and make_plan were given.  Raises errors.InvalidConfig."""
    if config is not None:
        made = bundles.from_config(config, bundle or ".")
    else:
        made = bundles.load(bundle or ".", config_path)
    if kernel.geteuid() and all(
        one["type"] != "user" for one in (made.config.get("linux") or {}).get("namespaces", ())
    ):
        from pyoci.host import subids

        subids.complete(made)
    return made


def create(request: Request, bundle: bundles.Bundle) -> Creation:
    """Create the container: the record and the init of what is returned are its.  Raises as Container.create."""
    bundle.check_rootfs()
    if request.notify and bundle.config.get("process"):
        from pyoci.host import notify

        bundle.config = notify.prepare(bundle.config, f"{request.root}/{request.id}")
    else:
        request.notify = False
    creation = Creation(request, bundle)
    creation.run()
    return creation


def plan_options(request: Request, bundle: bundles.Bundle, arch: str) -> Options:
    """What the plan depends on beside the config and the machine."""
    return Options(
        id=request.id,
        bundle=bundle.path,
        directory=f"{request.root}/{request.id}",
        cgroup_manager=request.cgroup_manager,
        no_pivot=request.no_pivot,
        no_new_keyring=request.no_new_keyring,
        env=request.env,
        preserve_fds=request.preserve_fds,
        rootless=request.rootless,
        state={
            "ociVersion": spec.VERSION,
            "id": request.id,
            "bundle": bundle.path,
            "annotations": bundle.config.get("annotations") or {},
        },
        seccomp=shared.seccomp_compiler(request.root, arch),
        names=shared.names(bundle.config["root"]["path"]),
    )


class Creation(shared.Run):
    """One create.  run() does it, or leaves nothing behind and raises.

    record, init, warnings: the result.
    """

    __slots__ = ("asked", "bundle", "directory", "facts", "init", "moved", "record")

    def __init__(self, request: Request, bundle: bundles.Bundle) -> None:
        self.facts = facts.read(request.cgroup_manager)
        super().__init__(request, make_plan(bundle.config, self.facts, plan_options(request, bundle, self.facts.arch)))
        self.asked = request
        self.bundle = bundle
        self.record = self._record()
        self.directory: states.Directory | None = None
        self.init: process.Process | None = None
        self.moved: list[Moved] = []  # network devices that are in the container

    def _record(self) -> dict[str, Any]:
        config, request = self.bundle.config, self.asked
        wanted = config.get("hooks") or {}
        return {
            "ociVersion": spec.VERSION,
            "id": request.id,
            "pid": 0,
            "start": 0,
            "bundle": self.bundle.path,
            "rootfs": self.plan.rootfs,
            "created": _now(),
            "annotations": config.get("annotations") or {},
            "owner": kernel.geteuid(),
            "cgroup": {},
            "cgroup_manager": request.cgroup_manager,
            "no_new_keyring": request.no_new_keyring,
            "process": bool(config.get("process")),
            "notify": request.notify,
            "hooks": {kind: wanted[kind] for kind in ("poststart", "poststop") if wanted.get(kind)},
            "steps": self._late_steps(),
        }

    def _late_steps(self) -> dict[str, list[str]]:
        """The operations after the fifo, for the words of `start`: index -> [sentence, where]."""
        late: dict[str, list[str]] = {}
        gate = len(self.plan.ops)
        for index, op in enumerate(self.plan.ops):
            if op.name == "fifo":
                gate = index
            elif index > gate and op.name != "exec":
                late[str(index)] = [op.describe(), op.where]
        return late

    def run(self) -> None:
        """Create it.  Raises a subclass of errors.Error; nothing is left behind then."""
        try:
            self._prepare()
            self._launch()
            _step("done")
        except BaseException as error:
            self._undo(error)
            raise
        finally:
            self.close()

    # -- the steps ----------------------------------------------------------------------------

    def _prepare(self) -> None:
        self.check()
        self.directory = states.Directory.create(self.asked.root, self.asked.id)
        if self.asked.notify:
            from pyoci.host import notify

            notify.make(self.directory)
        _step("directory")
        if self.plan.cgroup:
            cgroup_make.check(self.plan.cgroup)
            self.record["cgroup"] = self.plan.cgroup.record
        if self.plan.rdt:
            from pyoci.host import rdt

            self.record["rdt"] = rdt.check(self.plan.rdt)
        self.directory.write(states.CONFIG, self.bundle.raw)
        self.directory.save(self.record)  # names the cgroups before they are: a kill -9 from here on can be cleaned up
        _step("state")
        for name in self.plan.fds:
            self.fds.append(fifo.make(self.directory) if name == "fifo" else self.open(name))
        if any(op.name == "sysctl" for op in self.plan.ops):
            from pyoci.host import sysctl

            sysctl.check(self.plan, self.fds)
        _step("descriptors")

    def _launch(self) -> None:
        self.runner.spawn(self.request.stdio)
        _step("spawn")
        if self.plan.cgroup and not self.plan.cgroup.unit:
            cgroup_make.create(self.plan.cgroup)
            _step("cgroup")
        if self.plan.rdt:
            from pyoci.host import rdt

            rdt.create(self.plan.rdt, self.record["rdt"])
            _step("rdt")
        if not self.runner.has("fork"):
            self.forked(self.runner.pid)
        self.runner.send_plan(self.fds)
        _step("plan")
        self.close_fds()  # or the fifo would keep a reader and a writer that are not init
        self.runner.run(self)

    def sync(self, what: int) -> None:
        """nsexec waits for us."""
        if what == ops.SYNC_MAPS:
            maps.write(self.runner.pid, self.plan.uid_map, self.plan.gid_map, euid=self.facts.euid)
            _step("maps")
        elif what == ops.SYNC_DEVICES:
            from pyoci.host import netdev

            netdev.move(self.plan.net_devices, self.runner.pid, self.moved)
            _step("network devices")
        elif what == ops.SYNC_HOOKS:
            state = oci_state(self.record, "creating", self.record["pid"])
            for kind in hooks.BEFORE_CREATED:
                hooks.run(self.plan.hooks, kind, state, self.init.pidfd if self.init else -1)
            _step("hooks")

    def forked(self, pid: int) -> None:
        """init is there: written down before it goes on, so that a kill -9 from here on can be cleaned up."""
        assert self.directory
        start = process.start_time(pid)
        self.init = process.Process(pid, start, child=True)
        self.record["pid"], self.record["start"] = pid, start
        self.directory.save(self.record)
        _step("forked")
        if self.plan.rdt:
            from pyoci.host import rdt

            rdt.enter(self.record["rdt"], pid)
        if self.plan.cgroup and self.plan.cgroup.unit:
            self._scope(pid)
        if self.plan.cgroup:
            cgroup_make.apply_late(self.plan.cgroup)

    def _scope(self, pid: int) -> None:
        from pyoci.host import systemd

        assert self.plan.cgroup
        assert self.directory
        systemd.start(self.plan.cgroup, pid)
        self.directory.save(self.record)
        _step("scope")
        cgroup_make.create(self.plan.cgroup)
        _step("cgroup")
        if self.plan.cgroup.version == 1:  # systemd has put it into its own hierarchy
            cgroup.attach(self.plan.cgroup.record, pid)

    def outside(self, pid: int) -> None:
        """Into its cgroup from here."""
        assert self.plan.cgroup
        cgroup.attach(self.plan.cgroup.record, pid)
        _step("attach")

    def console(self, master: int) -> None:
        """The terminal goes to who asked for it."""
        super().console(master)
        _step("console")

    def listener(self, number: int) -> None:
        """To who asked for it."""
        self.hand_over(number, self.bundle.config, oci_state(self.record, "creating", self.record["pid"]))
        _step("listener")

    def ready(self) -> None:
        """Everything is applied.  The rename of the fifo is the moment from which the container is created."""
        assert self.directory
        self.runner.reap_spawned()
        self.schedule()
        _step("ready")
        assert self.init
        self.hand_out(self.init)
        _step("pid file")
        fifo.publish(self.directory)
        _step("publish")
        self.save_verbs()  # after publish: to the launcher no fifo is running
        _step("verbs")
        self.open_gate()

    def save_verbs(self) -> None:
        """Write down what the launcher knows without us."""
        assert self.directory
        document = self.directory.document(self.record, "stopped")
        self.directory.write(states.VERBS, ops.encode(verbs.make(self.record, document, states.FILES)))

    # -- the end ------------------------------------------------------------------------------

    def _undo(self, error: BaseException) -> None:
        """Back to as if nothing had been asked for.  What fails here is noted on the error, which is what counts."""
        began = bool(self.runner.pid)
        shared.attempt(error, self._blame_memory, error)
        self._give_back(error)
        shared.attempt(error, self.runner.abort)
        if self.init:
            shared.attempt(error, self.init.close)
        if self.directory is None:
            return
        if self.request.pid_file and began:
            shared.attempt(error, shared.remove_pid_file, self.request.pid_file, self.record["pid"])
        shared.attempt(error, remove, self.directory, self.record, self.warnings)
        if self.record.get("rdt"):
            from pyoci.host import rdt

            shared.attempt(error, rdt.undo, self.record["rdt"])
        if began:  # L18
            shared.attempt(error, self._poststop)

    def _poststop(self) -> None:
        self.warnings += hooks.run_all(self.record["hooks"], "poststop", oci_state(self.record, "stopped"))

    def _blame_memory(self, error: BaseException) -> None:
        """The limit of memory is the config's to mend: so where, and why, when the kernel has killed init for it."""
        if not isinstance(error, errors.SetupError) or "killed by signal 9" not in error.message:
            return
        if self.record["cgroup"] and cgroup.oom_killed(self.record["cgroup"]):
            error.message = "the container ran out of memory while it was made: its limit of memory is too low"
            error.where = "/linux/resources/memory/limit"

    def _give_back(self, error: BaseException) -> None:
        """The network devices of the host, while there is a namespace to take them from."""
        if not self.moved:
            return
        from pyoci.host import netdev

        for device in reversed(self.moved):
            shared.attempt(error, netdev.back, [device], self.runner.pid)

    def close(self) -> None:
        """Close what is open; the lock goes with the directory."""
        super().close()
        if self.directory:
            self.directory.close()


def _now() -> str:
    now = time.time_ns()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09d}Z"
