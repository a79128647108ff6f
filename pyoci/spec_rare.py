"""The parts of config.json that most configs do not have: as spec_tables, loaded when they are there."""

from __future__ import annotations

from pyoci import spec_cross_rare
from pyoci.spec_kinds import clos_id, device_name, id_list, page_size, weight
from pyoci.spec_rules import array, boolean, enum, integer, mapping, obj, path, strings, text, u16, u32, u64, word

MAJOR = integer(0, 0xFFF)  # what fits into dev_t of the system calls
MINOR = integer(0, 0xFFFFF)

# -- process (config.md) ---------------------------------------------------------------------

SCHEDULER = obj(
    "policy",
    spec_cross_rare.scheduler,
    policy=enum("SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"),
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
)
IO_PRIORITY = obj(
    "class",
    priority=integer(0, 7),
    **{"class": enum("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE")},
)

# -- linux.resources (config-linux.md) -------------------------------------------------------

WEIGHTS = array(obj("major minor", major=MAJOR, minor=MINOR, weight=weight, leafWeight=weight))
THROTTLES = array(obj("major minor rate", major=MAJOR, minor=MINOR, rate=u64))
BLOCK_IO = obj(
    weight=weight,
    leafWeight=weight,
    weightDevice=WEIGHTS,
    throttleReadBpsDevice=THROTTLES,
    throttleWriteBpsDevice=THROTTLES,
    throttleReadIOPSDevice=THROTTLES,
    throttleWriteIOPSDevice=THROTTLES,
)
HUGEPAGE_LIMITS = array(obj("pageSize limit", pageSize=page_size, limit=u64))
NETWORK = obj(classID=u32, priorities=array(obj("name priority", name=device_name, priority=u32)))
RDMA = mapping(obj("", spec_cross_rare.rdma, hcaHandles=u32, hcaObjects=u32), word)

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
    spec_cross_rare.seccomp,
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
            spec_cross_rare.syscalls,
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

INTEL_RDT = obj(
    closID=clos_id,
    l3CacheSchema=text,
    memBwSchema=text,
    schemata=array(word),
    enableMonitoring=boolean,
    enableCMT=boolean,
    enableMBM=boolean,
)
MEMORY_POLICY = obj(
    "mode",
    spec_cross_rare.memory_policy,
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
)
