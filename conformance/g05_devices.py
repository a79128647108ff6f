"""G5: devices."""

from __future__ import annotations

from typing import Any

from conformance.box import Box, same
from conformance.runner import check


def stat(box: Box, *paths: str) -> list[str]:
    """Type, numbers (hexadecimal), mode, uid and gid of each path, as the program sees them."""
    return box.output("stat", "-c", "%F %t:%T %a %u:%g", *paths).splitlines()


@check("D01")
def devices(box: Box) -> None:
    """c, b, u and p with their numbers, mode and owner."""
    box.linux["devices"] = [
        {"path": "/dev/cc", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 5, "gid": 6},
        {"path": "/dev/bb", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600, "uid": 0, "gid": 0},
        {"path": "/dev/uu", "type": "u", "major": 1, "minor": 5, "fileMode": 0o666, "uid": 0, "gid": 0},
        {"path": "/dev/pp", "type": "p", "fileMode": 0o622, "uid": 7, "gid": 8},
    ]
    found = stat(box, "/dev/cc", "/dev/bb", "/dev/uu", "/dev/pp")
    wanted = ["character special file 1:3 640 5:6", "block special file 7:c8 600 0:0",
              "character special file 1:5 666 0:0", "fifo 0:0 622 7:8"]  # fmt: skip
    same(found, wanted, "devices")


@check("D02")
def mismatch(box: Box) -> None:
    """A file that is there and is something else is an error."""
    (box.rootfs / "opt").mkdir()
    (box.rootfs / "opt/null").write_text("a file")
    box.linux["devices"] = [{"path": "/opt/null", "type": "c", "major": 1, "minor": 3}]
    box.refused("a regular file where the device should be")
    same((box.rootfs / "opt/null").read_text(), "a file", "the file")


@check("D03")
def anywhere(box: Box) -> None:
    """A device may be anywhere in the container, its directory is made."""
    box.linux["devices"] = [{"path": "/opt/a/b/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]
    same(stat(box, "/opt/a/b/null"), ["character special file 1:3 666 0:0"], "/opt/a/b/null")


@check("D04")
def default_devices(box: Box) -> None:
    """null zero full random urandom tty are there and work; ptmx leads to pts/ptmx."""
    wanted = {"null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9", "tty": "5:0"}
    found = stat(box, *(f"/dev/{name}" for name in wanted))
    same(found, [f"character special file {numbers} 666 0:0" for numbers in wanted.values()], "devices")
    out = box.sh("head -c 3 /dev/zero | od -An -tx1; echo x >/dev/null && echo null; readlink -f /dev/ptmx; "
                 "{ echo x >/dev/full; } 2>/dev/null || echo full")  # fmt: skip
    same(" ".join(out.split()), "00 00 00 null /dev/pts/ptmx full", "how they behave")


KMSG = {"type": "c", "major": 1, "minor": 11}  # no default device; to open it for writing takes no privilege
DENY = {"allow": False, "access": "rwm"}


def opened(box: Box, *rules: dict[str, Any]) -> bool:
    """Whether the program can open /dev/kmsg for writing under these rules."""
    box.linux["devices"] = [{"path": "/host", **KMSG, "fileMode": 0o666}]
    box.resources["devices"] = list(rules)
    return "open" in box.sh("(: >/host) 2>/dev/null && echo open; true")


@check("D05")
def rule_order(box: Box) -> None:
    """Rules count in their order: a later one decides."""
    allow, deny = {"allow": True, **KMSG, "access": "rwm"}, {"allow": False, **KMSG, "access": "w"}
    for rules, wanted in (([DENY, allow], True), ([DENY, allow, deny], False), ([DENY, deny, allow], True)):
        same(opened(box, *rules), wanted, f"may open with {rules}")


@check("D05")
def wildcards(box: Box) -> None:
    """Type, major and minor that are not set mean all."""
    table: list[tuple[dict[str, Any], bool]] = [
        ({}, True),
        ({"type": "a"}, True),
        ({"type": "c"}, True),
        ({"type": "c", "major": 1}, True),
        ({"type": "c", "minor": 11}, True),
        ({"type": "b"}, False),
        ({"type": "c", "major": 2}, False),
        ({"type": "c", "minor": 12}, False),
    ]
    for rule, wanted in table:
        same(opened(box, DENY, {"allow": True, "access": "rwm", **rule}), wanted, f"may open with allow {rule}")


@check("D06")
def only_defaults(box: Box) -> None:
    """With everything denied the default devices work and no other does."""
    same(opened(box, DENY), False, "may open /dev/kmsg")
    same(box.sh("cat /dev/null && echo null").strip(), "null", "/dev/null")
