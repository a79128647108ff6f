"""The messages of criu's RPC (`criu swrk`), as far as they are spoken here: pure.

Sources: criu's images/rpc.proto for the numbers, the protocol buffers' encoding document for the bytes.  It is a
handful of integers and texts, so there is no library behind it; tests/unit/test_criu_rpc.py holds it to criu's own.
"""

from __future__ import annotations

from pyoci import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# kinds of fields
INT, TEXT = "int", "text"
# wire types
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


class Message:
    """A kind of message: name of a field -> its number and what it is, INT, TEXT or another Message."""

    __slots__ = ("fields", "numbers")

    def __init__(self, fields: Mapping[str, tuple[int, str | Message]]) -> None:
        self.fields = fields
        self.numbers = {number: (name, kind) for name, (number, kind) in fields.items()}


DUMP, RESTORE, PRE_DUMP, NOTIFY = 1, 2, 4, 6  # criu_req_type
CGROUP_MODES = {"soft": 3, "full": 4, "strict": 5, "ignore": 0}  # criu_cg_mode

OPTIONS = Message(
    {
        "images_dir_fd": (1, INT),
        "pid": (2, INT),
        "leave_running": (3, INT),
        "ext_unix_sk": (4, INT),
        "tcp_established": (5, INT),
        "evasive_devices": (6, INT),
        "shell_job": (7, INT),
        "file_locks": (8, INT),
        "log_level": (9, INT),
        "log_file": (10, TEXT),
        "ps": (11, Message({"address": (1, TEXT), "port": (2, INT)})),
        "notify_scripts": (12, INT),
        "root": (13, TEXT),
        "parent_img": (14, TEXT),
        "track_mem": (15, INT),
        "auto_dedup": (16, INT),
        "work_dir_fd": (17, INT),
        "link_remap": (18, INT),
        "manage_cgroups": (24, INT),
        "cg_root": (25, Message({"ctrl": (1, TEXT), "path": (2, TEXT)})),
        "rst_sibling": (26, INT),
        "inherit_fd": (27, Message({"key": (1, TEXT), "fd": (2, INT)})),
        "manage_cgroups_mode": (34, INT),
        "external": (37, TEXT),
        "empty_ns": (38, INT),
        "join_ns": (39, Message({"ns": (1, TEXT), "ns_file": (2, TEXT)})),
        "freeze_cgroup": (44, TEXT),
        "tcp_skip_in_flight": (46, INT),
        "lazy_pages": (48, INT),
        "orphan_pts_master": (50, INT),
        "config_file": (51, TEXT),
        "tcp_close": (52, INT),
        "lsm_profile": (53, TEXT),
        "lsm_mount_context": (63, TEXT),
    }
)
REQUEST = Message({"type": (1, INT), "opts": (2, OPTIONS), "notify_success": (3, INT)})
RESPONSE = Message(
    {
        "type": (1, INT),
        "success": (2, INT),
        "restore": (4, Message({"pid": (1, INT)})),
        "notify": (5, Message({"script": (1, TEXT), "pid": (2, INT)})),
        "cr_errno": (7, INT),
        "cr_errmsg": (9, TEXT),
    }
)


def encode(message: Message, values: Mapping[str, Any]) -> bytes:
    """The bytes of a message.  values: name -> int, bool, str or a mapping of the same; a list repeats the field."""
    out = bytearray()
    for name, value in values.items():
        number, kind = message.fields[name]
        for item in value if isinstance(value, list) else [value]:
            if kind is INT:
                out += _varint(number << 3 | VARINT) + _varint(int(item))
                continue
            data = encode(kind, item) if isinstance(kind, Message) else item.encode("utf-8", "surrogateescape")
            out += _varint(number << 3 | LENGTH) + _varint(len(data)) + data
    return bytes(out)


def decode(message: Message, data: bytes) -> dict[str, Any]:
    """The fields of a message; those that are not known here are left out.  Raises errors.SetupError."""
    values: dict[str, Any] = {}
    at = 0
    while at < len(data):
        key, at = _number(data, at)
        name, kind = message.numbers.get(key >> 3, ("", ""))
        wire = key & 7
        if wire == VARINT:
            value, at = _number(data, at)
            if kind is INT:
                values[name] = value
            continue
        if wire == LENGTH:
            size, at = _number(data, at)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise _broken()
        if at + size > len(data):
            raise _broken()
        part, at = data[at : at + size], at + size
        if wire == LENGTH and isinstance(kind, Message):
            values[name] = decode(kind, part)
        elif wire == LENGTH and kind is TEXT:
            values[name] = part.decode("utf-8", "surrogateescape")
    return values


def _varint(value: int) -> bytes:
    """Seven bits at a time, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(data: bytes, at: int) -> tuple[int, int]:
    """The varint at that place, and the place after it."""
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise _broken()


def _broken() -> errors.SetupError:
    return errors.SetupError("criu answered with a message that cannot be read")
