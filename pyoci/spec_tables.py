"""The runtime-spec's config.json, version 1.3.0, for Linux, as rules: config.md, config-linux.md.

obj("required names", rule of the whole, name=rule of it ...).  Read it beside the spec.
"""

from __future__ import annotations

from pyoci import linux, spec_cross
from pyoci.spec_kinds import (
    cgroup_path,
    clos_id,
    cpuset,
    device_access,
    device_name,
    environment,
    host_name,
    id_list,
    key,
    page_size,
    sysctl_name,
    unified_name,
    version,
    weight,
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
    u16,
    u32,
    u64,
    word,
)

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
    scheduler=obj(
        "policy",
        spec_cross.scheduler,
        policy=enum(
            "SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"
        ),
        nice=integer(-20, 19),
        priority=integer(0, 99),
        flags=array(
            enum(
                "SCHED_FLAG_RESET_ON_FORK",
                "SCHED_FLAG_RECLAIM",
                "SCHED_FLAG_DL_OVERRUN",
                "SCHED_FLAG_KEEP_POLICY",
                "SCHED_FLAG_KEEP_PARAMS",
                "SCHED_FLAG_UTIL_CLAMP_MIN",
                "SCHED_FLAG_UTIL_CLAMP_MAX",
            )
        ),
        runtime=u64,
        deadline=u64,
        period=u64,
    ),
    selinuxLabel=word,
    ioPriority=obj(
        "class",
        priority=integer(0, 7),
        **{"class": enum("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE")},
    ),
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

WEIGHTS = array(obj("major minor", major=MAJOR, minor=MINOR, weight=weight, leafWeight=weight))
THROTTLES = array(obj("major minor rate", major=MAJOR, minor=MINOR, rate=u64))

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
    blockIO=obj(
        weight=weight,
        leafWeight=weight,
        weightDevice=WEIGHTS,
        throttleReadBpsDevice=THROTTLES,
        throttleWriteBpsDevice=THROTTLES,
        throttleReadIOPSDevice=THROTTLES,
        throttleWriteIOPSDevice=THROTTLES,
    ),
    hugepageLimits=array(obj("pageSize limit", pageSize=page_size, limit=u64)),
    network=obj(classID=u32, priorities=array(obj("name priority", name=device_name, priority=u32))),
    rdma=mapping(obj("", spec_cross.rdma, hcaHandles=u32, hcaObjects=u32), word),
    unified=mapping(text, unified_name),
)

# -- linux.seccomp ---------------------------------------------------------------------------

ACTION = enum(
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
)
SECCOMP = obj(
    "defaultAction",
    spec_cross.seccomp,
    defaultAction=ACTION,
    defaultErrnoRet=u16,  # SECCOMP_RET_DATA, seccomp(2)
    architectures=array(
        enum(
            "SCMP_ARCH_X86",
            "SCMP_ARCH_X86_64",
            "SCMP_ARCH_X32",
            "SCMP_ARCH_ARM",
            "SCMP_ARCH_AARCH64",
            "SCMP_ARCH_MIPS",
            "SCMP_ARCH_MIPS64",
            "SCMP_ARCH_MIPS64N32",
            "SCMP_ARCH_MIPSEL",
            "SCMP_ARCH_MIPSEL64",
            "SCMP_ARCH_MIPSEL64N32",
            "SCMP_ARCH_PPC",
            "SCMP_ARCH_PPC64",
            "SCMP_ARCH_PPC64LE",
            "SCMP_ARCH_S390",
            "SCMP_ARCH_S390X",
            "SCMP_ARCH_PARISC",
            "SCMP_ARCH_PARISC64",
            "SCMP_ARCH_RISCV64",
            "SCMP_ARCH_LOONGARCH64",
            "SCMP_ARCH_M68K",
            "SCMP_ARCH_SH",
            "SCMP_ARCH_SHEB",
        )
    ),
    flags=array(
        enum(
            "SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        )
    ),
    listenerPath=path,
    listenerMetadata=text,
    syscalls=array(
        obj(
            "names action",
            spec_cross.syscalls,
            names=strings(least=1),
            action=ACTION,
            errnoRet=u16,
            args=array(
                obj(
                    "index value op",
                    index=integer(0, 5),
                    value=u64,
                    valueTwo=u64,
                    op=enum(
                        "SCMP_CMP_NE",
                        "SCMP_CMP_LT",
                        "SCMP_CMP_LE",
                        "SCMP_CMP_EQ",
                        "SCMP_CMP_GE",
                        "SCMP_CMP_GT",
                        "SCMP_CMP_MASKED_EQ",
                    ),
                )
            ),
        )
    ),
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
    intelRdt=obj(
        closID=clos_id,
        l3CacheSchema=text,
        memBwSchema=text,
        schemata=array(word),
        enableMonitoring=boolean,
        enableCMT=boolean,
        enableMBM=boolean,
    ),
    memoryPolicy=obj(
        "mode",
        spec_cross.memory_policy,
        mode=enum(
            "MPOL_DEFAULT",
            "MPOL_BIND",
            "MPOL_INTERLEAVE",
            "MPOL_WEIGHTED_INTERLEAVE",
            "MPOL_PREFERRED",
            "MPOL_PREFERRED_MANY",
            "MPOL_LOCAL",
        ),
        nodes=id_list,
        flags=array(enum("MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES")),
    ),
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
