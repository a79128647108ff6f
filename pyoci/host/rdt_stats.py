"""The `intel_rdt` part of a stats event: what the container's resctrl group is allowed and uses.

Source: the kernel's resctrl.rst; the names are those of `runc events`.
"""

from __future__ import annotations

import os

from pyoci import errors
from pyoci.host import schemata, stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# files in info/RESOURCE, which are the names in the event too
L3_INFO = ("cbm_mask", "min_cbm_bits", "num_closids")
MB_INFO = ("bandwidth_gran", "delay_linear", "min_bandwidth", "num_closids")


def read(pid: int, root: str = schemata.ROOT) -> dict[str, Any]:
    """See above; {} when the process is in no group of its own."""
    if not os.path.exists(f"{root}/schemata"):
        return {}
    try:
        group = schemata.group_of(pid, root)
    except errors.SetupError:
        return {}
    found: dict[str, Any] = {}
    parts: tuple[tuple[str, str, tuple[str, ...]], ...] = (("L3", "l3_cache", L3_INFO), ("MB", "mem_bw", MB_INFO))
    for resource, part, names in parts:
        info = f"{root}/info/{resource}"
        if os.path.isdir(info):
            found[f"{part}_info"] = stats.some({name: _value(f"{info}/{name}", name) for name in names})
            found[f"{part}_schema_root"] = schema(f"{root}/schemata", resource)
            found[f"{part}_schema"] = schema(f"{group}/schemata", resource)
    nodes = _nodes(f"{group}/mon_data")
    if any(os.path.exists(f"{node}/mbm_total_bytes") for node in nodes):
        names = ("mbm_total_bytes", "mbm_local_bytes")
        found["mbm_stats"] = [stats.some({name: stats.number(f"{node}/{name}") for name in names}) for node in nodes]
    if any(os.path.exists(f"{node}/llc_occupancy") for node in nodes):
        found["cmt_stats"] = [stats.some({"llc_occupancy": stats.number(f"{node}/llc_occupancy")}) for node in nodes]
    return found


def _value(file: str, name: str) -> int | str:
    return stats.text(file) if name == "cbm_mask" else stats.number(file)


def _nodes(directory: str) -> list[str]:
    try:
        return [f"{directory}/{name}" for name in sorted(os.listdir(directory)) if name.startswith("mon_L3_")]
    except OSError:
        return []


def schema(file: str, prefix: str) -> str:
    """The lines of a schemata file that begin with prefix."""
    return "\n".join([line.strip() for line in stats.text(file).splitlines() if line.strip().startswith(prefix)])
