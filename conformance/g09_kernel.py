"""G9: sysctl, personality, memory policy, resctrl."""

from __future__ import annotations

from pathlib import Path

from conformance import machine
from conformance.box import Box, Skip, holds, same
from conformance.runner import check


@check("Z01")
def sysctls(box: Box) -> None:
    """Sysctls of the container's namespaces are set there and nowhere else."""
    host = Path("/proc/sys/kernel/shmmni").read_text()
    box.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shmmni": "1234", "net.ipv4.conf.lo.forwarding": "1"}
    out = box.output("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/shmmni")
    same(out.split(), ["1", "1234"], "inside")
    same(Path("/proc/sys/kernel/shmmni").read_text(), host, "outside")


@check("Z01")
def sysctls_of_the_host(box: Box) -> None:
    """One of no namespace, or of a namespace that is the host's, is an error."""
    now = Path("/proc/sys/vm/swappiness").read_text().strip()  # the value it has: harmless if it is written after all
    box.alone(lambda b: b.linux.update(sysctl={"vm.swappiness": now}), "vm.swappiness, which is the host's")
    box.no_namespace("network")
    box.config["mounts"] = [m for m in box.config["mounts"] if m["destination"] != "/sys"]
    now = Path("/proc/sys/net/ipv4/ip_forward").read_text().strip()
    box.alone(
        lambda b: b.linux.update(sysctl={"net.ipv4.ip_forward": now}), "net.* in the network namespace of the host"
    )


@check("Z02")
def domains(box: Box) -> None:
    """LINUX and LINUX32."""
    for domain, wanted in (("LINUX32", "8"), ("LINUX", "0")):
        box.linux["personality"] = {"domain": domain}
        same(box.output("probe", "personality").strip(), wanted, f"personality with {domain}")
    box.linux["personality"] = {"domain": "NOSUCH"}
    box.refused("an unknown domain")


@check("Z03")
def personality_flags(box: Box) -> None:
    """A flag is an error: the spec defines none."""
    box.linux["personality"] = {"domain": "LINUX", "flags": ["NOSUCH"]}
    box.refused("a flag")


MODES = {
    "DEFAULT": 0,
    "PREFERRED": 1,
    "BIND": 2,
    "INTERLEAVE": 3,
    "LOCAL": 4,
    "PREFERRED_MANY": 5,
    "WEIGHTED_INTERLEAVE": 6,
}


@check("Z04")
def memory_policy(box: Box) -> None:
    """The seven modes, with nodes."""
    lacking = []
    for name, number in MODES.items():
        if error := machine.memory_policy(number):
            lacking.append(f"MPOL_{name} ({error})")
            continue
        with_nodes = name not in ("DEFAULT", "LOCAL")
        box.linux["memoryPolicy"] = {"mode": f"MPOL_{name}", **({"nodes": "0"} if with_nodes else {})}
        same(box.output("probe", "mempolicy").split(), [str(number), str(int(with_nodes))], name)
    if lacking:
        raise Skip(f"this kernel refuses {', '.join(lacking)}")


@check("Z04")
def memory_policy_flags(box: Box) -> None:
    """The three flags; an unknown mode or flag is an error."""
    if not Path("/proc/self/numa_maps").exists():
        raise Skip("this kernel knows no NUMA")
    for flag, bit in (("STATIC_NODES", 1 << 15), ("RELATIVE_NODES", 1 << 14), ("NUMA_BALANCING", 1 << 13)):
        box.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0", "flags": [f"MPOL_F_{flag}"]}
        same(box.output("probe", "mempolicy").split()[0], str(2 | bit), flag)
    box.linux["memoryPolicy"] = {"mode": "MPOL_NOSUCH"}
    box.refused("an unknown mode")
    box.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NOSUCH"]}
    box.refused("an unknown flag")


def needs_resctrl(box: Box, *plan: str) -> None:
    """Raises Skip where there is no resctrl, or PlanOnly when the runtime's plan has these parts, in this order."""
    if not machine.resctrl():
        box.skip_or_plan("this kernel has no resctrl", *plan)
    if not Path("/sys/fs/resctrl/schemata").exists():
        box.skip_or_plan("resctrl is not mounted", *plan)


@check("Z05")
def without_resctrl(box: Box) -> None:
    """Where there is no resctrl, asking for it is an error and not asking is none."""
    if machine.resctrl():
        raise Skip("this kernel has resctrl")
    same(box.output("echo", "x"), "x\n", "without intelRdt")
    box.linux["intelRdt"] = {"closID": box.id}
    box.refused("intelRdt on a machine without resctrl")


@check("Z05")
def clos(box: Box) -> None:
    """The program is in the group closID."""
    box.linux["intelRdt"] = {"closID": box.id}
    needs_resctrl(box, f"use the RDT class {box.id}")
    directory = Path("/sys/fs/resctrl", box.id)
    directory.mkdir()
    try:
        pid = box.up()
        holds(str(pid) in (directory / "tasks").read_text().split(), "the program is not in tasks")
    finally:
        directory.rmdir()


@check("Z05")
def root_clos(box: Box) -> None:
    """closID / is the root group."""
    box.linux["intelRdt"] = {"closID": "/"}
    needs_resctrl(box, "use the RDT class /")
    pid = box.up()
    holds(str(pid) in Path("/sys/fs/resctrl/tasks").read_text().split(), "the program is not in tasks")


@check("Z06")
def schemata(box: Box) -> None:
    """l3CacheSchema, memBwSchema and schemata are written in this order."""
    box.linux["intelRdt"] = {
        "closID": box.id,
        "l3CacheSchema": "L3:0=3",
        "memBwSchema": "MB:0=70",
        "schemata": ["L3:0=1"],
    }
    needs_resctrl(box, "with L3:0=3", "with MB:0=70", "with L3:0=1")
    lines = Path("/sys/fs/resctrl/schemata").read_text().split()
    kinds = {line.partition(":")[0] for line in lines}
    if not {"L3", "MB"} <= kinds:
        raise Skip(f"this machine's resctrl has {' '.join(sorted(kinds))} only")
    box.up()
    found = Path("/sys/fs/resctrl", box.id, "schemata").read_text().split()
    for line in ("L3:0=1", "MB:0=70"):  # the last of L3 counts
        holds(any(entry.replace("=00", "=").startswith(line) for entry in found), f"schemata: {found}")


@check("Z07")
def clos_must_exist(box: Box) -> None:
    """A closID without a schema must exist."""
    box.linux["intelRdt"] = {"closID": f"{box.id}-nosuch"}
    needs_resctrl(box, f"use the RDT class {box.id}-nosuch, which must be there")
    box.refused("a closID that is not there")


@check("Z07")
def clos_must_match(box: Box) -> None:
    """The schemata of a closID that is there are compared."""
    box.linux["intelRdt"] = {"closID": box.id, "l3CacheSchema": "L3:0=1"}
    needs_resctrl(box, f"use the RDT class {box.id}, or make it; what is there must have this", "with L3:0=1")
    directory = Path("/sys/fs/resctrl", box.id)
    directory.mkdir()  # with everything
    try:
        box.refused("a closID that is there and has another schema")
    finally:
        directory.rmdir()


@check("Z08")
def clos_removed(box: Box) -> None:
    """A group without closID is removed, one with it is not."""
    box.linux["intelRdt"] = {"schemata": ["L3:0=1"]}
    needs_resctrl(box, f"make the RDT class {box.id}, and remove it at delete")
    box.run()
    holds(not Path("/sys/fs/resctrl", box.id).exists(), "the group is still there")
    box.linux["intelRdt"]["closID"] = box.id
    try:
        box.run()
        holds(Path("/sys/fs/resctrl", box.id).exists(), "the group closID was removed")
    finally:
        Path("/sys/fs/resctrl", box.id).rmdir()


@check("Z09")
def monitoring_without_resctrl(box: Box) -> None:
    """enableMonitoring that cannot be had is an error."""
    if machine.resctrl():
        raise Skip("this kernel has resctrl")
    box.linux["intelRdt"] = {"enableMonitoring": True}
    box.refused("enableMonitoring on a machine without resctrl")


@check("Z09")
def monitoring(box: Box) -> None:
    """mon_groups/ID is made and removed."""
    box.linux["intelRdt"] = {"enableMonitoring": True}
    needs_resctrl(box, f"monitor it as {box.id}, until delete")
    box.up()
    directory = Path("/sys/fs/resctrl", box.id, "mon_groups", box.id)
    holds(directory.is_dir(), "there is no mon_groups/ID")
    box.end()
    box.delete()
    holds(not directory.exists(), "mon_groups/ID is still there")
