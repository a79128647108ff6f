"""The driver's talk with a bus, as a bus of these tests answers it: slow, refusing, gone.  C03."""

from __future__ import annotations

import socket
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import jeepney
import pytest

from pyoci import container_start, errors
from pyoci.host import systemd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Answer = Callable[[jeepney.Message], jeepney.Message | None]

SCOPE = {"unit": "p-c.scope", "user": False}
JOB = "/org/freedesktop/systemd1/job/1"


def refusing(name: str, text: str = "no") -> Answer:
    return lambda message: jeepney.new_error(message, name, "s", (text,))


def returning(signature: str | None = None, body: tuple[Any, ...] = ()) -> Answer:
    return lambda message: jeepney.new_method_return(message, signature, body)


def silent(_: jeepney.Message) -> None:
    return None


class FakeBus(threading.Thread):
    """Lets everybody in and answers each method with what `answers` has; asked: what it was asked, in order."""

    def __init__(self, path: str) -> None:
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        self.socket.listen()
        self.asked: list[str] = []
        self.answers: dict[str, Answer | list[Answer]] = {
            "Hello": returning("s", (":1.1",)),
            "Subscribe": returning(),
            "AddMatch": returning(),
        }

    def run(self) -> None:
        while True:
            try:
                client = self.socket.accept()[0]
            except OSError:  # the end
                return
            with client:
                self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        said = b""
        while b"DATA\r\n" not in said:
            said += client.recv(512)
        client.sendall(b"DATA\r\nOK 0123\r\n")
        parser, begun = jeepney.Parser(), b""
        while b"BEGIN\r\n" not in begun:
            begun += client.recv(512)
        parser.add_data(begun.partition(b"BEGIN\r\n")[2])
        serial = 0
        while True:
            message = parser.get_next_message()
            if message is None:
                data = client.recv(4096)
                if not data:
                    return
                parser.add_data(data)
                continue
            for answer in self._answers(message):
                serial += 1
                client.sendall(answer.serialise(serial=serial))

    def _answers(self, message: jeepney.Message) -> Iterator[jeepney.Message]:
        member = str(message.header.fields[jeepney.HeaderFields.member])
        self.asked.append(member)
        known = self.answers[member]
        answer = (known.pop(0) if isinstance(known, list) else known)(message)
        if answer:
            yield answer
        if answer and answer.body == (JOB,):
            emitter = jeepney.DBusAddress(systemd.PATH, interface=systemd.MANAGER)
            yield jeepney.new_signal(emitter, "JobRemoved", "uoss", (1, JOB, "p-c.scope", "done"))


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBus]:
    path = str(tmp_path / "bus")
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={path}")
    made = FakeBus(path)
    made.start()
    yield made
    made.socket.shutdown(socket.SHUT_RDWR)
    made.socket.close()
    made.join()


def test_a_job_is_waited_for(bus: FakeBus) -> None:
    bus.answers["StopUnit"] = returning("o", (JOB,))
    systemd.stop(SCOPE)
    assert bus.asked == ["Hello", "Subscribe", "AddMatch", "StopUnit"]


@pytest.mark.parametrize("member", ["Hello", "Subscribe", "AddMatch", "StopUnit"])
def test_no_answer_is_waited_for_without_end(bus: FakeBus, monkeypatch: pytest.MonkeyPatch, member: str) -> None:
    monkeypatch.setattr(systemd, "CALL_TIME", 0.5)
    bus.answers["StopUnit"] = returning("o", (JOB,))
    bus.answers[member] = silent
    with pytest.raises(errors.SetupError, match="timed out"):
        systemd.stop(SCOPE)


@pytest.mark.parametrize("member", ["Hello", "AddMatch"])
def test_a_bus_that_is_full(bus: FakeBus, member: str) -> None:
    """What the bus itself refuses is an error with its text, and no internal one."""
    bus.answers[member] = refusing("org.freedesktop.DBus.Error.LimitsExceeded", "too many of you")
    with pytest.raises(errors.SetupError, match="too many of you"):
        systemd.stop(SCOPE)


@pytest.mark.parametrize("name", ["ServiceUnknown", "Spawn.ChildExited"])
def test_a_bus_without_systemd(bus: FakeBus, name: str) -> None:
    """Such as dbus-run-session starts: what helps is said."""
    bus.answers["Subscribe"] = refusing(systemd.DBUS_ERROR + name, "there is none")
    with pytest.raises(errors.SetupError, match="there is none") as caught:
        systemd.stop(SCOPE)
    assert caught.value.hint == systemd.NO_SYSTEM


LOST = refusing(systemd.LOST, "it left")
LEFT = refusing(systemd.DBUS_ERROR + "Spawn.ChildExited", "there is none")


def test_systemd_executes_itself(bus: FakeBus) -> None:
    """As at an upgrade (daemon-reexec): it is back in a moment."""
    bus.answers.update(Subscribe=[LOST, LEFT, LEFT, returning()], StopUnit=[LOST, returning("o", (JOB,))])
    systemd.stop(SCOPE)
    assert bus.asked.count("StopUnit") == 2


def test_systemd_does_not_come_back(bus: FakeBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "AWAY_TIME", 0.1)
    bus.answers["Subscribe"] = LOST
    with pytest.raises(errors.SetupError, match="it left"):
        systemd.stop(SCOPE)


def test_a_start_that_was_lost(bus: FakeBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows whether it was done: it is not asked for twice."""
    bus.answers["StartTransientUnit"] = LOST
    with pytest.raises(errors.SetupError, match="it left"):
        start(monkeypatch)
    assert bus.asked.count("StartTransientUnit") == 1


def test_the_next_address_of_a_bus(bus: FakeBus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bus.answers["Get"] = returning("v", (("s", "/top/"),))
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path=/nowhere;unix:path={tmp_path}/bus,guid=00;")
    assert systemd.root(user=False) == "/top"
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere;unix:path=/nowhere/too")
    with pytest.raises(errors.SetupError, match="no such file"):
        systemd.root(user=False)
    for address in ("", ";", "tcp:host=x", "unix:", "unix:path", "/run/bus", "unix:tmpdir=/tmp"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere")
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        with pytest.raises(errors.SetupError, match="no connection"):
            systemd.root(user=True)


def test_systemd_itself_where_there_is_no_bus(bus: FakeBus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As systemctl does it, and runc: over the socket of systemd, which is none of a bus's."""
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd/private").symlink_to(tmp_path / "bus")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
    bus.answers["Hello"] = refusing("org.freedesktop.DBus.Error.UnknownObject")
    bus.answers["StopUnit"] = returning("o", (JOB,))
    systemd.stop({**SCOPE, "user": True})
    assert bus.asked == ["Hello", "Subscribe", "StopUnit"]


# -- a unit of that name ------------------------------------------------------------------------


def start(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(systemd, "_check_place", lambda plan, pid: None)
    unit = SimpleNamespace(name="p-c.scope", user=False, properties={})
    plan: Any = SimpleNamespace(unit=unit, record={})
    systemd.start(plan, 1)
    record: dict[str, Any] = plan.record
    return record


EXISTS = refusing(f"{systemd.NAME}.UnitExists", "it was already loaded")
STARTED = returning("o", (JOB,))


@pytest.mark.parametrize("forgotten", [returning(), refusing(f"{systemd.NAME}.NoSuchUnit")], ids=["failed", "gone"])
def test_one_that_failed_is_forgotten(bus: FakeBus, monkeypatch: pytest.MonkeyPatch, forgotten: Answer) -> None:
    """systemd keeps it until somebody has seen why; its name is free for all that."""
    bus.answers.update(StartTransientUnit=[EXISTS, STARTED], ResetFailedUnit=forgotten)
    assert start(monkeypatch) == {"systemd": SCOPE}
    assert bus.asked.count("Subscribe") == 2 == bus.asked.count("Hello") - 1  # once for each connection at most


def test_one_that_lives_is_not_taken(bus: FakeBus, monkeypatch: pytest.MonkeyPatch) -> None:
    bus.answers.update(StartTransientUnit=EXISTS, ResetFailedUnit=returning())
    with pytest.raises(errors.SetupError, match="already loaded"):
        start(monkeypatch)
    assert bus.asked.count("StartTransientUnit") == 2


# -- the end ------------------------------------------------------------------------------------


def test_delete_without_a_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has logged out: his containers can be deleted all the same."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere")
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    removed: list[bool] = []
    directory: Any = SimpleNamespace(remove=lambda: removed.append(True))
    warnings: list[str] = []
    cgroup = {
        "version": 2,
        "dirs": {"": "/sys/fs/cgroup/no/such"},
        "keep": [],
        "mount": "",
        "systemd": {**SCOPE, "user": True},
    }
    container_start.remove(directory, {"cgroup": cgroup}, warnings)
    assert removed
    assert "p-c.scope" in warnings[0]
    assert "no connection" in warnings[0]
