"""Seccomp profiles in docker's format -> linux.seccomp.  seccomp.json beside this file is the default one."""

from __future__ import annotations

import os

from pyoci.mydocker import errors, records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

_DEFAULT = f"{os.path.dirname(os.path.abspath(__file__))}/seccomp.json"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def default() -> dict[str, Any]:
    """The default profile, as it is in the file."""
    return records.read(_DEFAULT)


def load(path: str) -> dict[str, Any]:
    """A profile of the user's (--security-opt seccomp=FILE).  Raises errors.UsageError."""
    try:
        return records.read(path)
    except FileNotFoundError:
        raise errors.UsageError(f"cannot use the seccomp profile {path}: no such file") from None
    except records.Broken as error:
        raise errors.UsageError(f"cannot use the seccomp profile {path}: {error}") from None


def resolve(profile: dict[str, Any], capabilities: Collection[str]) -> dict[str, Any]:
    """linux.seccomp for a container with these capabilities on this machine.

    Rules with `includes` or `excludes` are taken or left; what remains is the runtime-spec's, and is checked by pyoci.
    """
    machine = os.uname().machine
    made: dict[str, Any] = {
        key: profile[key] for key in ("defaultAction", "defaultErrnoRet", "flags") if key in profile
    }
    made["architectures"] = profile.get("architectures") or _architectures(profile.get("archMap") or (), machine)
    made["syscalls"] = []
    for rule in profile.get("syscalls") or ():
        if _holds(rule, capabilities, _MACHINES.get(machine, machine)):
            kept = {key: rule[key] for key in ("action", "errnoRet", "args") if rule.get(key) is not None}
            made["syscalls"].append({"names": rule.get("names") or [rule.get("name")], **kept})
    return made


def _architectures(table: Any, machine: str) -> list[str]:
    native = {"x86_64": "X86_64", "aarch64": "AARCH64", "armv7l": "ARM", "i686": "X86"}.get(machine, machine.upper())
    for entry in table:
        if entry.get("architecture") == f"SCMP_ARCH_{native}":
            return [entry["architecture"], *(entry.get("subArchitectures") or ())]
    return [f"SCMP_ARCH_{native}"]


def _holds(rule: dict[str, Any], capabilities: Collection[str], machine: str) -> bool:
    wanted = rule.get("includes") or {}
    refused = rule.get("excludes") or {}
    if wanted.get("caps") and not set(wanted["caps"]) & set(capabilities):
        return False
    if set(refused.get("caps") or ()) & set(capabilities):
        return False
    if wanted.get("arches") and machine not in wanted["arches"]:
        return False
    return machine not in (refused.get("arches") or ())
