"""Ask systemd for a container's scope, over D-Bus.  Cold: only --systemd-cgroup loads it.

The system's manager answers root, the user's manager everybody else.  Every change is a job: it is done when
JobRemoved says so.  Sources: org.freedesktop.systemd1(5), the D-Bus specification's authentication protocol.
"""

from __future__ import annotations

import os
import select
import socket
import time

from pyoci import cold, errors
from pyoci.host import cgroupfs
from pyoci.plan import cgroup as plan_cgroup
from pyoci.plan import systemd_limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.plan.cgroup import CgroupPlan
    from pyoci.plan.systemd import Properties, Unit

SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"
NAME, PATH = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
MANAGER = f"{NAME}.Manager"
DBUS_ERROR = "org.freedesktop.DBus.Error."
# What a bus says on which there is no systemd (that of dbus-run-session), or for a moment not while it executes itself
ABSENT = tuple(DBUS_ERROR + name for name in ("ServiceUnknown", "NameHasNoOwner", "Spawn.ChildExited"))
LOST = DBUS_ERROR + "NoReply"  # it has begun to do so, and the call went with it
AWAY_TIME = 5.0  # seconds until it is back
CONNECT_TIME = 5.0  # seconds to be let in by the bus
CALL_TIME = 25.0  # seconds for an answer, as D-Bus libraries have it
JOB_TIME = 60.0  # seconds until a scope is there, or gone
IDLE_VERSION = 252  # of systemd, the first that knows cpu.idle
MANY_JOBS = 4096  # of others, that end while we wait for ours
NO_SYSTEM = "is systemd the init of this machine, and dbus installed? or leave out --systemd-cgroup"
NO_USER = (
    "the user needs a systemd session (a login, or loginctl enable-linger USER, dbus-user-session installed) with "
    "XDG_RUNTIME_DIR set; or leave out --systemd-cgroup"
)


def root(user: bool) -> str:
    """The cgroup below which this systemd keeps its units, "" for the root.  Raises errors.SetupError."""
    with Bus(user) as bus:
        return bus.fact("ControlGroup").rstrip("/")


def start(plan: CgroupPlan, pid: int) -> None:
    """Start the scope with the process in it.  Raises errors.SetupError with what systemd says.

    plan.record tells of the scope from here on, and not before: one of that name may be somebody else's.
    """
    unit = plan.unit
    assert unit
    try:
        _start(unit, pid)
    except Refused as error:
        if error.name != f"{NAME}.UnitExists":
            raise
        _forget(unit)
        _start(unit, pid)
    plan.record["systemd"] = {"unit": unit.name, "user": unit.user}
    _check_place(plan, pid)


def _start(unit: Unit, pid: int) -> None:
    with Bus(unit.user) as bus:
        known = _known(bus, unit.properties)
        properties: list[tuple[str, tuple[str, Any]]] = [*known.items(), ("PIDs", ("au", [pid]))]
        bus.job(unit.name, "StartTransientUnit", "ssa(sv)a(sa(sv))", (unit.name, "fail", properties, []))


def _forget(unit: Unit) -> None:
    """Have systemd let go of a unit that it has only because it failed.  One that lives stays as it is."""
    with Bus(unit.user) as bus:
        try:
            bus.call("ResetFailedUnit", "s", (unit.name,))
        except Refused as error:
            if error.name != f"{NAME}.NoSuchUnit":
                raise


def _known(bus: Bus, properties: Properties) -> Properties:
    """The properties without the CPUWeight of cpu.idle, where systemd does not take it; there it leaves cpu.idle alone.

    Raises errors.SetupError.
    """
    if properties.get("CPUWeight") != systemd_limits.IDLE:
        return properties
    digits = "".join([c if c.isdigit() else " " for c in bus.fact("Version")]).split()  # 252.39-1~deb12u1, v257-rc1
    if digits and int(digits[0]) >= IDLE_VERSION:
        return properties
    return {name: value for name, value in properties.items() if name != "CPUWeight"}


def _check_place(plan: CgroupPlan, pid: int) -> None:
    """Whether systemd put it where the plan is going to write."""
    line = "0::" if plan.version == 2 else f":{plan_cgroup.V1_NAMED}:"
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        found = next((text.rstrip("\n").partition(line)[2] for text in file if line in text), "")
    if found != plan.path:
        raise errors.SetupError(f"systemd put the container into {found or 'no cgroup'}, not into {plan.path}")


def set_properties(record: dict[str, Any], properties: Properties) -> None:
    """Change the properties of a running scope, until it ends.  Raises errors.SetupError.

    record: {"unit": name, "user": bool}, of the cgroup's record.
    """
    if not properties:
        return
    with Bus(record["user"]) as bus:
        properties = _known(bus, properties)
        bus.call("SetUnitProperties", "sba(sv)", (record["unit"], True, list(properties.items())))


def attach(record: dict[str, Any], below: str, pid: int) -> None:
    """Have a process moved into the scope, or into a cgroup below it ("/sub").  Raises errors.SetupError."""
    with Bus(record["user"]) as bus:
        bus.call("AttachProcessesToUnit", "ssau", (record["unit"], below, [pid]))


def stop(record: dict[str, Any]) -> None:
    """End the scope, whose processes have ended; gone already is no error.  Raises errors.SetupError."""
    with Bus(record["user"]) as bus:
        try:
            bus.job(record["unit"], "StopUnit", "ss", (record["unit"], "replace"))
        except Refused as error:
            if error.name != f"{NAME}.NoSuchUnit":
                raise


class Refused(errors.SetupError):
    """systemd answered with an error.  name: str, its D-Bus name."""

    def __init__(self, message: str, name: str, hint: str = "") -> None:
        super().__init__(message, where=plan_cgroup.PATH_WHERE, hint=hint)
        self.name = name


class Bus:
    """A connection to the bus on which a systemd listens; a context manager."""

    def __init__(self, user: bool) -> None:
        """Raises errors.SetupError when nobody listens, or the bus does not let us in."""
        self.jeepney = cold.load("jeepney")
        self.whose, self.hint = ("the user's systemd", NO_USER) if user else ("systemd", NO_SYSTEM)
        self.direct = False  # nobody in between
        address = bus_address(user)
        failures = (OSError, RuntimeError, ValueError, self.jeepney.DBusErrorResponse)
        try:
            try:
                self.connection = _connection(connect(address))
            except failures:
                if not self._direct(f"unix:path={_runtime(user)}/systemd/private", failures):
                    raise
        except failures as error:
            text = errors.errno_text(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            problem = f"no connection to {self.whose} over the bus {address}: {text or 'timed out'}"
            raise errors.SetupError(problem, hint=self.hint) from None

    def _direct(self, address: str, failures: tuple[type[Exception], ...]) -> bool:
        """Without a bus: systemd has a socket of its own, for its user and root alone, as systemctl uses it."""
        try:
            self.connection = _connection(connect(address), bus=False)
        except failures:
            return False
        self.direct = True
        return True

    def __enter__(self) -> Bus:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def call(self, member: str, signature: str, body: tuple[Any, ...], interface: str = MANAGER) -> tuple[Any, ...]:
        """Call a method of the manager; what it returns.  Raises Refused, errors.SetupError."""
        address = self.jeepney.DBusAddress(PATH, bus_name=NAME, interface=interface)
        message = self.jeepney.new_method_call(address, member, signature, body)
        away: tuple[str, ...] = (LOST,) if member != "StartTransientUnit" else ()  # nobody knows whether it was done
        for pause in cgroupfs.pauses(time.monotonic() + AWAY_TIME):
            try:
                return self._answer(message, member)
            except Refused as error:
                if error.name not in away:
                    raise
            away = (LOST, *ABSENT)
            select.poll().poll(pause * 1000)
        return self._answer(message, member)

    def _answer(self, message: Any, member: str) -> tuple[Any, ...]:
        try:
            reply = self.connection.send_and_get_reply(message)
        except (OSError, ValueError, EOFError) as error:  # TimeoutError and ConnectionError are OSErrors
            raise errors.SetupError(f"{self.whose} does not answer {member}: {str(error) or 'timed out'}") from None
        if reply.header.message_type == self.jeepney.MessageType.error:
            name = str(reply.header.fields.get(self.jeepney.HeaderFields.error_name, ""))
            text = str(reply.body[0]) if reply.body else "no reason given"
            hint = self.hint if name in ABSENT else ""
            raise Refused(f"{self.whose} refuses {member}: {text} ({name.removeprefix(DBUS_ERROR)})", name, hint)
        result: tuple[Any, ...] = reply.body
        return result

    def fact(self, name: str) -> str:
        """A property of the manager.  Raises Refused, errors.SetupError."""
        (variant,) = self.call("Get", "ss", (MANAGER, name), interface="org.freedesktop.DBus.Properties")
        return str(variant[1])

    def job(self, unit: str, member: str, signature: str, body: tuple[Any, ...]) -> None:
        """Call a method that starts a job, and wait for the job.  Raises Refused, errors.SetupError."""
        rule = self.jeepney.MatchRule(type="signal", interface=MANAGER, member="JobRemoved", path=PATH)
        self.call("Subscribe", "", ())
        if not self.direct:
            self._answer(self.jeepney.message_bus.AddMatch(rule), "AddMatch")
        with self.connection.filter(rule, bufsize=MANY_JOBS) as queue:
            (job,) = self.call(member, signature, body)
            deadline = time.monotonic() + JOB_TIME
            while True:
                try:
                    signal = self.connection.recv_until_filtered(queue, timeout=deadline - time.monotonic())
                except (OSError, EOFError) as error:
                    problem = f"{self.whose} does not finish {member} of {unit}: {str(error) or 'timed out'}"
                    raise errors.SetupError(problem) from None
                _, path, _, result = signal.body
                if path == job:
                    break
        if result != "done":
            raise errors.SetupError(f"{self.whose} did not finish {member} of {unit}: {result}")


def _connection(sock: socket.socket, bus: bool = True) -> Any:
    """The D-Bus connection over a socket.  It waits for no answer without end, that to its own Hello included.

    bus: False: who listens is systemd itself, which knows no Hello.  Raises OSError, jeepney's DBusErrorResponse.
    """
    jeepney = cold.load("jeepney")

    class Connection(cold.load("jeepney.io.blocking").DBusConnection):  # type: ignore[misc] # loaded late
        def __init__(self) -> None:
            try:
                super().__init__(sock)
            except jeepney.DBusErrorResponse:
                if bus:
                    raise

        def send_and_get_reply(self, message: Any, *, timeout: float | None = None) -> Any:
            return super().send_and_get_reply(message, timeout=CALL_TIME if timeout is None else timeout)

    try:
        return Connection()
    except BaseException:
        sock.close()
        raise


def connect(address: str) -> socket.socket:
    """To the first of a bus's addresses at which it lets us in.  Raises OSError, RuntimeError, ValueError."""
    refused: OSError | None = None
    for target in list(cold.load("jeepney.bus").get_connectable_addresses(address.rstrip(";"))):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.settimeout(CONNECT_TIME)
        try:
            sock.connect(target)
            authenticate(sock)
        except OSError as error:
            sock.close()
            refused = error
        else:
            sock.settimeout(None)
            return sock
    raise refused or ValueError("no address")


def authenticate(sock: socket.socket) -> None:
    """Let the bus see who we are.  Raises OSError, ConnectionError when it does not want us.

    Without naming a user: in a user namespace we do not know by which number the bus knows us.
    """
    sock.sendall(b"\0AUTH EXTERNAL\r\nDATA\r\n")
    answer = b""
    while answer.count(b"\r\n") < 2 and not answer.startswith((b"REJECTED", b"ERROR")):
        part = sock.recv(512)
        if not part or len(answer) > 4096:
            raise ConnectionError("the bus hangs up")
        answer += part
    if not answer.startswith(b"DATA") or b"\r\nOK " not in answer:
        raise ConnectionError(f"the bus says {answer.decode('ascii', 'replace').strip()}")
    sock.sendall(b"BEGIN\r\n")


def bus_address(user: bool) -> str:
    """The D-Bus address of the bus, from the environment as all its clients have it."""
    if not user:
        return os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or SYSTEM_BUS
    return os.environ.get("DBUS_SESSION_BUS_ADDRESS") or f"unix:path={_runtime(user)}/bus"


def _runtime(user: bool) -> str:
    return (os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}") if user else "/run"
