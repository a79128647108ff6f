"""SECURITY 17: what a container or an image says ends in one line of an error, a log, a terminal: no escape sequence,
no second line, no JSON that is not ours."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import pytest

from pyoci.host import notify
from tests.integration.harness import Box, Terminal, pyoci_only, read_until

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pyoci_only("1.1 quotes some of them")

# a cursor's move, a title, a bell, C1's CSI, a line and a carriage return, an end of a string, right-to-left
NASTY = '\x1b[2J\x1b]0;x\x07\x9b31m\r\nlevel=error msg="forged"\n{"level":"error","msg":"forged"}\u202e\u2028"}'
LINE = NASTY.replace("\r", "").replace("\n", "")  # for what may not have an end of a line


def hook(box: Box) -> None:
    box.hook("createRuntime", "/bin/sh", "sh", "-c", f"printf '%s' '{NASTY}' | tr '\\n' '\\r' >&2; exit 1")


def inside_hook(box: Box) -> None:
    box.hook("createContainer", "/bin/sh", "sh", "-c", f"printf '%s' '{NASTY}' | tr '\\n' '\\r' >&2; exit 1")


def set_in(section: str, key: str) -> Callable[[Box], None]:
    def apply(box: Box) -> None:
        box.config[section][key] = f"/{NASTY}"

    return apply


WAYS: dict[str, Callable[[Box], None]] = {
    "program": lambda box: box.args(f"/nowhere/{NASTY}"),
    "program in PATH": lambda box: box.args(NASTY),
    "cwd": lambda box: box.process.update(cwd=f"/etc/passwd/{NASTY}"),
    "mount": lambda box: box.mount(f"/etc/passwd/{NASTY}", "tmpfs", "tmpfs"),
    "source": lambda box: box.bind("/x", f"/nowhere/{NASTY}"),
    "type": lambda box: box.mount("/x", NASTY, "tmpfs"),
    "option": lambda box: box.mount("/x", "tmpfs", "tmpfs", NASTY),
    "device": lambda box: box.linux.update(devices=[{"path": f"/etc/passwd/{NASTY}", "type": "p"}]),
    "root": set_in("root", "path"),
    "sysctl": lambda box: box.linux.update(sysctl={f"net.{NASTY}": "1"}),
    "capability": lambda box: box.caps(NASTY),
    "hook": hook,
    "hook inside": inside_hook,
    "namespace": lambda box: box.namespace("network", f"/nowhere/{NASTY}"),
    "cgroup": lambda box: box.linux.update(cgroupsPath=f"/{NASTY}/.."),
    "unknown key": lambda box: box.config.update({NASTY: 1}) or box.args("/nowhere"),  # type: ignore[func-returns-value]
}  # fmt: skip


def clean(text: str) -> bool:
    return all(character.isprintable() for character in text)


@pytest.mark.parametrize("way", WAYS)
def test_one_line_of_a_log(box: Box, way: str) -> None:
    """Text and JSON, stderr and --log: each line is ours and printable; a JSON log parses, and says one error."""
    WAYS[way](box)
    log = box.bundle / "log"
    box.write()
    for format in ("text", "json"):
        log.unlink(missing_ok=True)
        result = box.rt(
            "--log", str(log), "--log-format", format, "run", "--bundle", str(box.bundle), box.id, check=False
        )
        assert result.code == (way != "capability")  # that is a warning
        lines = log.read_text().splitlines()
        assert all(clean(line) for line in (*lines, *result.err.splitlines())), result.err
        if format == "json":
            entries = [json.loads(line) for line in lines]
            assert all(clean(entry["msg"]) for entry in entries)
            assert [entry["level"] for entry in entries].count("error") == result.code
        else:
            assert all(re.fullmatch(r'time="[^"]*" level=\w+ msg="(?:[^"\\]|\\.)*"', line) for line in lines), lines
            assert len([line for line in lines if " level=error " in line.split(" msg=")[0] + " "]) == result.code


@pytest.mark.parametrize("way", ["program", "hook", "hook inside", "mount"])
def test_one_line_of_a_terminal(box: Box, way: str) -> None:
    """A person's terminal is not written to but with text."""
    WAYS[way](box)
    box.write()
    with Terminal(box.argv("create", "--bundle", str(box.bundle), box.id)) as terminal:
        shown = read_until(terminal.fd, "", 20)
        terminal.wait()
    assert shown.count("\n") == 1, shown
    assert clean(shown.strip("\r\n")), shown


def test_what_is_listed(box: Box) -> None:
    """state and list, with annotations of an image; and the table with a bundle of such a name."""
    box.config["annotations"] = {"a": NASTY, NASTY: "b"}
    box.process["env"].append(f"NASTY={NASTY}")
    box.args("/bin/busybox", "sleep", "100", NASTY)
    box.mount(f"/{LINE}", "tmpfs", "tmpfs")
    box.linux["maskedPaths"].append(f"/masked{LINE}")
    box.config[NASTY] = 1
    os.rename(box.bundle, box.directory / NASTY.replace("/", "-"))
    box.bundle = box.directory / NASTY.replace("/", "-")
    box.rootfs, box.stdout, box.stderr = box.bundle / "rootfs", box.bundle / "stdout", box.bundle / "stderr"
    box.create()
    for words in (
        ["state", box.id], ["list"], ["list", "--format", "json"], ["ps", box.id], ["ps", box.id, "-eo", "pid,args"],
        ["plan", str(box.bundle)], ["plan", "--json", str(box.bundle)],
        ["validate", str(box.bundle)], ["validate", "--json", str(box.bundle)],
    ):  # fmt: skip
        result = box.rt(*words, check=False)
        assert result.code == 0 or words[0] == "validate", result.err
        shown = result.out + result.err
        assert all(clean(line) for line in shown.splitlines()), words
        assert "forged" not in [line.strip() for line in shown.splitlines()]
    assert box.state()["annotations"] == box.config["annotations"]


def test_what_the_service_manager_is_told() -> None:
    """sd_notify(3): no process but init, and nobody else is allowed to speak."""
    said = b"MAINPID=1\nMAINPIDFD=1\nNOTIFYACCESS=all\nSTATUS=x\nREADY=1\n"
    assert notify.translate(said, 4321) == b"STATUS=x\nREADY=1\nMAINPID=4321"
    assert notify.translate(b"NOTIFYACCESS=all", 4321) == b""
