"""The runtime-spec's config.json, version 1.3.0, for Linux, as rules: config.md, config-linux.md.

obj("required names", rule of the whole, name=rule of it ...).  Read it beside the spec.
"""

from __future__ import annotations

from pyoci import linux, spec_cross, spec_rare
from pyoci.spec_kinds import (
    cgroup_path,
    cpuset,
    device_access,
    device_name,
    environment,
    host_name,
    id_list,
    key,
    sysctl_name,
    unified_name,
    version,
)
from pyoci.spec_rules import (
    absolute,
    array,
    boolean,
    enum,
    i64,
    integer,
    limit,
    mapping,
    no_newline,
    obj,
    path,
    strings,
    text,
    u32,
    u64,
    word,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.spec_rules import Found, Rule

ID = integer(0, 0xFFFFFFFE)  # 0xFFFFFFFF is -1: "leave unchanged" to the kernel
MAJOR = integer(0, 0xFFF)  # what fits into dev_t of the system calls
MINOR = integer(0, 0xFFFFF)
ANY_NUMBER = integer(-1, 0xFFFFF)  # of a device rule; -1: all
PATHS = strings(path, "\0\n")
MAPPINGS = array(
    obj("containerID hostID size", containerID=u32, hostID=u32, size=integer(1, 0xFFFFFFFF)),
    spec_cross.mappings,
    most=340,  # user_namespaces(7)
)


def rare(name: str) -> Rule:
    """A rule of spec_rare: most configs do not need it, and do not load it."""

    def check(value: Any) -> Found:
        found: Found = getattr(spec_rare, name)(value)
        return found

    return check


SECCOMP = rare("SECCOMP")

# -- process (config.md) ---------------------------------------------------------------------

PROCESS = obj(
    "cwd args",
    spec_cross.process,
    terminal=boolean,
    consoleSize=obj("height width", height=u32, width=u32),
    cwd=absolute,
    env=environment,
    args=strings(least=1),
    rlimits=array(
        obj("type soft hard", spec_cross.rlimit, type=enum(*linux.RLIMITS), soft=u64, hard=u64), spec_cross.rlimits
    ),
    apparmorProfile=word,
    capabilities=obj(
        # the names are not checked: one that the kernel does not know is a warning (row P10)
        bounding=strings(),
        permitted=strings(),
        effective=strings(),
        inheritable=strings(),
        ambient=strings(),
    ),
    noNewPrivileges=boolean,
    oomScoreAdj=integer(-1000, 1000),
    scheduler=rare("SCHEDULER"),
    selinuxLabel=word,
    ioPriority=rare("IO_PRIORITY"),
    execCPUAffinity=obj(initial=id_list, final=id_list),
    user=obj(
        "uid gid",
        uid=ID,
        gid=ID,
        umask=integer(0, 0o777),
        additionalGids=array(ID, most=65536),  # NGROUPS_MAX
    ),
)

HOOKS = array(
    obj("path", path=absolute, args=strings(), env=environment, timeout=integer(1, 0x7FFFFFFF))  # seconds
)

MOUNT = obj(
    "destination",
    spec_cross.mount,
    destination=path,
    type=no_newline,
    source=no_newline,
    options=strings(no_newline, "\0\n"),
    uidMappings=MAPPINGS,
    gidMappings=MAPPINGS,
)

# -- linux.resources (config-linux.md) -------------------------------------------------------

RESOURCES = obj(
    devices=array(
        obj(
            "allow",
            allow=boolean,
            type=enum("a", "c", "b"),
            major=ANY_NUMBER,
            minor=ANY_NUMBER,
            access=device_access,
        )
    ),
    memory=obj(
        limit=limit,
        reservation=limit,
        swap=limit,
        kernel=limit,
        kernelTCP=limit,
        swappiness=integer(0, 100),
        disableOOMKiller=boolean,
        useHierarchy=boolean,
        checkBeforeUpdate=boolean,
    ),
    cpu=obj(
        "",
        spec_cross.cpu,
        shares=u64,
        quota=i64,
        burst=u64,
        period=u64,
        realtimeRuntime=i64,
        realtimePeriod=u64,
        cpus=cpuset,
        mems=cpuset,
        idle=integer(0, 1),
    ),
    pids=obj(limit=limit),
    blockIO=rare("BLOCK_IO"),
    hugepageLimits=rare("HUGEPAGE_LIMITS"),
    network=rare("NETWORK"),
    rdma=rare("RDMA"),
    unified=mapping(text, unified_name),
)

# -- linux, the rest -------------------------------------------------------------------------

LINUX = obj(
    namespaces=array(obj("type", type=enum(*linux.NAMESPACES), path=absolute), spec_cross.namespaces),
    uidMappings=MAPPINGS,
    gidMappings=MAPPINGS,
    timeOffsets=mapping(obj(secs=i64, nanosecs=integer(0, 999999999)), enum("boottime", "monotonic")),
    devices=array(
        obj(
            "type path",
            spec_cross.device,
            type=enum(*linux.DEVICE_TYPES),
            path=absolute,
            major=MAJOR,
            minor=MINOR,
            fileMode=integer(0, 0o177777),  # podman sends the type bits along
            uid=ID,
            gid=ID,
        )
    ),
    netDevices=mapping(obj(name=device_name), device_name, spec_cross.net_devices),
    cgroupsPath=cgroup_path,
    resources=RESOURCES,
    intelRdt=rare("INTEL_RDT"),
    memoryPolicy=rare("MEMORY_POLICY"),
    sysctl=mapping(word, sysctl_name),
    seccomp=SECCOMP,
    rootfsPropagation=enum(*linux.PROPAGATION),
    maskedPaths=array(absolute),
    readonlyPaths=array(absolute),
    mountLabel=word,
    personality=obj("domain", domain=enum("LINUX", "LINUX32"), flags=array(text, most=0)),  # Z03: none is defined
)

CONFIG = obj(
    "ociVersion root",
    spec_cross.config,
    ociVersion=version,
    root=obj("path", path=path, readonly=boolean),
    mounts=array(MOUNT),
    process=PROCESS,  # may be absent at create (row L05)
    hostname=host_name,
    domainname=host_name,
    hooks=obj(
        prestart=HOOKS,
        createRuntime=HOOKS,
        createContainer=HOOKS,
        startContainer=HOOKS,
        poststart=HOOKS,
        poststop=HOOKS,
    ),
    annotations=mapping(text, key),
    linux=LINUX,
)
