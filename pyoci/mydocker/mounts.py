"""-v, --mount and --tmpfs: what a container sees beside its image.  Parsing is pure.

A mount: {"type": bind|volume|tmpfs, "source": path or "", "name": volume or "", "destination", "ro": bool,
"options": [...], "made": bool (-v makes a missing host directory, --mount does not)}.
"""

from __future__ import annotations

import os
import re

from pyoci.mydocker import errors, options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VOLUME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")
_MODES = frozenset("ro rw z Z nocopy cached delegated consistent".split())
_PROPAGATION = frozenset("shared slave private rshared rslave rprivate".split())
_ALIASES = {"src": "source", "dst": "destination", "target": "destination", "readonly": "ro"}
_TMPFS = "nosuid nodev noexec".split()


def volume(text: str) -> dict[str, Any]:
    """-v [SOURCE:]DESTINATION[:OPTIONS].  Raises errors.UsageError."""
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise errors.UsageError(f"invalid volume specification: {text!r}", hint="[SOURCE:]DESTINATION[:ro]")
    given = parts[2].split(",") if len(parts) == 3 else []
    source = parts[0] if len(parts) > 1 else ""
    for option in given:
        if option not in _MODES | _PROPAGATION:
            raise errors.UsageError(f"invalid mode {option!r} in volume specification {text!r}")
    made = _mount(parts[1] if len(parts) > 1 else parts[0], "ro" in given)
    made["options"] = [option for option in given if option in _PROPAGATION]
    if source.startswith(("/", "./", "../")) or source in (".", ".."):
        return {**made, "type": "bind", "source": os.path.abspath(source), "made": True}
    if source and not VOLUME.fullmatch(source):
        raise errors.UsageError(
            f"{source!r} includes invalid characters for a volume name, only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
            hint="a host directory is written as an absolute path",
        )
    return {**made, "type": "volume", "name": source, "nocopy": "nocopy" in given}


def mount(text: str) -> dict[str, Any]:
    """--mount type=bind,source=/a,destination=/b,readonly.  Raises errors.UsageError."""
    fields: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        fields[_ALIASES.get(key, key)] = value if equals else "true"
    kind = fields.pop("type", "volume")
    made = _mount(fields.pop("destination", ""), _truth(fields.pop("ro", "false")))
    source = fields.pop("source", "")
    if kind == "bind":
        if not source.startswith("/"):
            raise errors.UsageError(f"--mount {text!r}: a bind mount needs an absolute source")
        made |= {"type": "bind", "source": os.path.normpath(source)}
        propagation = fields.pop("bind-propagation", "")
        if propagation and propagation not in _PROPAGATION:
            raise errors.UsageError(f"--mount {text!r}: invalid propagation {propagation!r}")
        made["options"] = [propagation] if propagation else []
    elif kind == "volume":
        if source and not VOLUME.fullmatch(source):
            raise errors.UsageError(f"--mount {text!r}: {source!r} is no volume name")
        made |= {"type": "volume", "name": source, "nocopy": _truth(fields.pop("volume-nocopy", "false"))}
    elif kind == "tmpfs":
        size, mode = fields.pop("tmpfs-size", ""), fields.pop("tmpfs-mode", "")
        sized = [f"size={options.size(size)}"] if size else []
        made |= {"type": "tmpfs", "options": [*_TMPFS, *sized, *([f"mode={mode}"] if mode else [])]}
    else:
        raise errors.UsageError(f"--mount {text!r}: the type is bind, volume or tmpfs")
    if fields:
        raise errors.UsageError(f"--mount {text!r}: unexpected key {next(iter(fields))!r}")
    return made


def tmpfs(text: str) -> dict[str, Any]:
    """--tmpfs DESTINATION[:OPTIONS].  Raises errors.UsageError."""
    destination, _, given = text.partition(":")
    wanted = [option for option in given.split(",") if option]
    kept = [option for option in _TMPFS if option.removeprefix("no") not in wanted]
    return {**_mount(destination, "ro" in wanted), "type": "tmpfs", "options": kept + [o for o in wanted if o != "rw"]}


def _mount(destination: str, ro: bool) -> dict[str, Any]:
    if not destination.startswith("/"):
        raise errors.UsageError(f"invalid mount path {destination!r}: mount path must be absolute")
    path = os.path.normpath("/" + destination.lstrip("/"))
    if path == "/":
        raise errors.UsageError("invalid mount: destination can't be '/'")
    return {"destination": path, "ro": ro, "source": "", "name": "", "options": [], "made": False}


def _truth(text: str) -> bool:
    return text.lower() in ("true", "1")


def oci(mount: dict[str, Any], *, mapped: bool = False) -> dict[str, Any]:
    """The mount of config.json.  mapped: the container has ids of its own, with which it sees volumes."""
    if mount["type"] == "tmpfs":
        return {"destination": mount["destination"], "type": "tmpfs", "source": "tmpfs", "options": mount["options"]}
    propagation = [option for option in mount["options"] if option in _PROPAGATION] or ["rprivate"]
    mode = ["ro" if mount["ro"] else "rw"]
    return {
        "destination": mount["destination"],
        "type": "bind",
        "source": mount["source"],
        "options": ["rbind", *propagation, *mode, *(["idmap"] if mapped and mount["type"] == "volume" else [])],
    }
