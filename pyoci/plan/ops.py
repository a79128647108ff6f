"""The operations nsexec knows: one table, from which encoding, checking and wording come.

A plan is a list of Op.  libexec/nsexec.c holds the same codes in `enum op_code`; a test
holds the two together.  Every operation has up to NUMS integers and any number of
byte strings.  Encoding (little endian, every record padded to 8 bytes):

    header   8s magic "PYOCI" NUL + u16 version, u32 total size, u32 number of ops
    record   u16 code, u16 number of strings, u32 record size, i64 x NUMS
             then per string: u32 length, bytes, NUL
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NUMS = 8
VERSION = 1
MAGIC = b"PYOCI\0" + struct.pack("<H", VERSION)
HEADER = struct.Struct("<8sII")
RECORD = struct.Struct(f"<HHI{NUMS}q")
LENGTH = struct.Struct("<I")
MAX_PLAN = 16 << 20  # bytes; nsexec refuses more
MAX_OPS = MAX_PLAN // RECORD.size  # no plan has more
MAX_STRINGS = 0xFFFF  # of one operation
MAX_FDS = 64  # descriptors that come with a plan; the same

# What a sync op waits for; nsexec sends the number, the host side acts and answers GO.
SYNC_MAPS = 1  # the host writes uid_map, gid_map of the sending process
SYNC_HOOKS = 2  # the host runs prestart and createRuntime hooks
SYNC_DEVICES = 3  # the host moves network devices to the network namespace of the sending process
SYNCS = {SYNC_MAPS: "id maps", SYNC_HOOKS: "prestart and createRuntime hooks", SYNC_DEVICES: "network devices"}

# bind.flags
BIND_RECURSIVE = 1
BIND_SOURCE_NOFOLLOW = 2
BIND_DEST_NOFOLLOW = 4
BIND_COPY_SYMLINK = 8  # a source that is a symlink is copied, not bound
BIND_OVER_PROC = 16  # the destination may lie on procfs (the lxcfs files); else that is refused
BIND_OPTIONAL = 32  # a source that is not there is no error (nofail)
BIND_OWN_WAY = 64  # a symlink anywhere in the destination is an error, or a mount that the config put somewhere else
TREE_IDMAP_ALL = 64  # tree.flags: map the ids of every mount of the tree, not of the topmost only
# mount.copyup: what a new tmpfs takes over from the directory it covers
COPY_CONTENT = 1
COPY_OWNER = 2
COPY_MODE = 4
# mount.flags beside MS_* of mount(2): none; tmpcopyup has its own number
# symlink.flags, mknod.flags
REPLACE = 1  # an existing file of another kind is removed first; else it is an error
KEEP = 2  # whatever exists stays
OWN_WAY = 4  # a symlink on the way to it is an error, and a mount that the config put somewhere else
# seccomp.flags, beside those of a profile: seccomp(2) returns a listener
SECCOMP_LISTENER = 8
# setids.flags
SETGROUPS = 1  # call setgroups(2), also with an empty list
KEEPCAPS = 2  # keep permitted capabilities over the change
CHOWN_STDIO = 4  # give stdin, stdout, stderr to uid where the kernel lets us
# pivot.mode
PIVOT_ROOT = 0
PIVOT_MOVE = 1  # --no-pivot: MS_MOVE and chroot
PIVOT_CHROOT = 2  # no mount namespace of its own: chroot only
# cwd.flags
CWD_TRY = 1  # no right to enter is no error: a later cwd op tries again as the user
# mkdir.flags
MKDIR_OPTIONAL = 1  # a failure is no error (the later chdir says why)

# verb.verb
VERBS = {"state": 1, "start": 2, "kill": 3, "delete": 4}

UNCHANGED = -1  # for ids and modes: leave as it is


class OpDef:
    """One kind of operation: its code, the names of its numbers and strings, its sentence.

    The last string name may end in "*": it takes all remaining strings.
    """

    __slots__ = ("code", "name", "nums", "strs", "text")

    def __init__(self, name: str, code: int, nums: str, strs: str, text: str) -> None:
        self.name = name
        self.code = code
        self.nums = tuple(nums.split())
        self.strs = tuple(strs.split())
        self.text = text


_TABLE = (
    # name, code, numbers, strings, sentence
    # -- namespaces -------------------------------------------------------------------------
    # fd: index into Plan.fds (a namespace descriptor opened by the host side).  Consecutive
    # joins are one group: those refused with EPERM are tried again after the user namespace.
    ("join", 1, "kind fd", "path", "join {kind} namespace {path}"),
    ("unshare", 2, "namespaces", "", "create namespaces: {namespaces}"),
    ("sync", 3, "sync", "", "wait for the host: {sync}"),
    ("timens", 4, "", "offsets", "set clock offsets {offsets}"),
    # the child enters the cgroups opened by `enter` ops before it does anything else
    # shed 1: what is open of the host is closed before, so that the child has nothing of it
    ("fork", 5, "shed", "", "fork into the new namespaces"),
    ("setsid", 6, "", "", "start a session"),
    ("keyring", 7, "", "name", "join session keyring {name}"),
    # opens a cgroup for the later fork: the file `tasks` of a v1 directory, or a v2 directory
    ("enter", 8, "optional", "path", "enter cgroup {path}"),
    # -- mounts -----------------------------------------------------------------------------
    ("propagation", 10, "propagation", "", "set propagation of /{propagation}"),
    # opens the tree of a source before the user namespace is entered; bind.slot refers to it
    # idmap: 0, or one more than the index in Plan.fds of the user namespace by which the ids are mapped
    # attr_* and rec_* as of bind, which has none then
    (
        "tree",
        11,
        "slot flags idmap attr_set attr_clr rec_set rec_clr",
        "source",
        "open {source}{attr_set}{attr_clr}{rec_set}{rec_clr}{idmap}",
    ),
    # mounts all trees below path, in a mount namespace that is nobody's
    ("gather", 28, "", "path", "gather what was opened on {path}"),
    # opens them again in the container's mount namespace, which is a copy: there they are locked
    ("take", 29, "", "", "take what was gathered, locked"),
    # bind: 1 binds the path on itself (pivot_root wants a mount), 0 only opens it (no mount namespace of its
    # own); private: 1 first makes the mount private that holds the path, where it may still be shared
    ("rootfs", 12, "bind private", "path", "use {path} as root"),
    # a new file system; flags are MS_*, copyup COPY_*, idmap as of tree, optional: no such device is no error
    # keep: 0, or one more than the slot in which it stays open for seal
    (
        "mount",
        13,
        "flags propagation copyup idmap optional keep",
        "type source dest data",
        "mount {type} on {dest}{flags}{propagation}{idmap}",
    ),
    # slot: -1, or the slot of a tree op.  attr_*: MOUNT_ATTR_* to set and clear on the mount
    # itself, rec_*: on every mount under it.  keep as of mount
    (
        "bind",
        14,
        "slot flags attr_set attr_clr rec_set rec_clr propagation keep",
        "source dest",
        "bind {source} on {dest}{attr_set}{attr_clr}{rec_set}{rec_clr}{propagation}",
    ),
    # change an existing mount: attributes and propagation; sb: also the file system, by sb_flags MS_* and data
    (
        "remount",
        15,
        "attr_set attr_clr rec_set rec_clr propagation sb sb_flags",
        "dest data",
        "remount {dest}{attr_set}{attr_clr}{rec_set}{rec_clr}{propagation}",
    ),
    # a mount that was kept open
    ("seal", 9, "slot", "dest", "make {dest} read-only"),
    ("mask", 16, "", "path", "mask {path}"),
    ("readonly", 17, "", "path", "make {path} read-only"),
    ("mkdir", 18, "mode flags", "path", "make directory {path}"),
    # mode has the S_IF* type bits; uid, gid may be UNCHANGED
    ("mknod", 19, "mode major minor uid gid flags", "path", "make device {path} {mode} {major}:{minor}"),
    ("symlink", 20, "flags", "target path", "link {path} -> {target}"),
    # console: a new pty of the container's devpts; bind 1 puts it on /dev/console; the master goes to the host
    ("console", 21, "height width uid bind", "", "open a terminal"),
    ("pivot", 22, "mode", "", "change root ({mode})"),
    ("ctty", 26, "", "", "make the terminal the controlling one"),
    ("umount", 27, "mount", "path", "unmount {path}"),
    # exec: "/" of the joined mount namespace is the root for the later path ops
    ("root_here", 23, "", "", "use / of the joined namespace as root"),
    # about the mount or bind that they follow: done before it is attached
    ("subdir", 24, "", "path subdir", "show only {subdir} of what is mounted on {path}"),
    ("own", 25, "uid gid mode", "path", "give {path} owner {uid}:{gid} and mode {mode}"),
    # a standard stream that is a null device becomes the container's
    ("streams", 34, "", "", "take the container's null device for streams"),
    # -- system -----------------------------------------------------------------------------
    ("hostname", 30, "", "name", "set hostname {name}"),
    ("domainname", 31, "", "name", "set domainname {name}"),
    ("sysctl", 32, "", "path value", "set sysctl {path} to {value}"),
    # in-container hooks; stdin is prefix + pid + suffix.  timeout in ms, 0: none.  stdout, stderr: 0, or one more than
    # the index in Plan.fds of a file that takes it
    ("hook", 33, "timeout argc envc stdout stderr", "path prefix suffix strings*", "run hook {path}"),
    # -- process ----------------------------------------------------------------------------
    ("oom_score_adj", 40, "value", "", "set oom_score_adj to {value}"),
    # early: raise the hard limit if it is lower, and nothing else: in a user namespace nobody can
    ("rlimit", 41, "resource soft hard early", "name", "set {name} to {soft}:{hard}{early}"),
    ("umask", 42, "umask", "", "set umask {umask}"),
    ("cwd", 43, "flags", "path", "change directory to {path}"),
    ("bounding", 44, "caps", "", "limit the bounding set to {caps}"),
    ("setids", 45, "uid gid flags", "groups", "become uid {uid}, gid {gid}"),
    # the sets are bit masks; with seccomp still to load CAP_SYS_ADMIN stays until execve drops it
    ("caps", 46, "effective permitted inheritable ambient", "", "set capabilities {effective}"),
    ("no_new_privs", 47, "", "", "set no_new_privs"),
    # gate: 0, or one more than the index in Plan.fds of a full pipe: it waits until its listener was handed over
    ("seccomp", 48, "flags gate", "program", "load seccomp program{gate}"),
    ("home", 49, "uid", "", "look up HOME"),
    # finds args[0] as execvp(3) would, with PATH of the container; the later exec uses what it found
    ("lookup", 50, "", "file path", "find executable {file}"),
    ("ready", 51, "", "", "tell the host that the container is created"),
    # the exec fifo: blocks in write(2) until `start` drains it
    ("fifo", 52, "fd", "", "wait for start"),
    ("exec", 53, "argc envc preserve", "strings*", "execute {strings}"),
    # sched_setattr(2) on pid, 0: the process itself; ioprio_set(2); masks are bytes, little endian
    (
        "scheduler",
        54,
        "policy nice priority options runtime deadline period pid",
        "name",
        "set scheduling policy {name}",
    ),
    ("io_priority", 55, "class priority", "name", "set I/O priority {name}, {priority}"),
    ("affinity", 56, "", "cpus mask", "run on CPUs {cpus}"),
    ("personality", 57, "persona", "name", "set personality {name}"),
    # set_mempolicy(2): mode with its flags
    ("mempolicy", 58, "memory", "nodes mask", "set memory policy {memory} {nodes}"),
    # file and, when that is not there, other: paths under the host's /proc
    ("label", 59, "", "file other value", "set label {value} in {file}"),
    # -- verbs without an interpreter: what the launcher does for a container that exists ------
    ("verb", 60, "verb", "", "to {verb}:"),
    ("process", 61, "pid start", "", "find init {pid}, started at {start}"),
    ("frozen", 62, "", "path word", "it is paused unless {path} says {word}"),
    # before pid between status after
    ("report", 63, "", "before between after", "print the state"),
    ("release", 64, "", "", "let init go and wait until it has become the program"),
    ("signal", 65, "", "", "send the signal"),
    ("end", 66, "", "", "end init if it never ran or --force is given"),
    ("rmdir", 67, "", "path", "remove cgroup {path}"),
    ("unlink", 68, "", "name", "remove {name}"),
    ("forget", 69, "", "", "remove the state directory"),
)

OPS = {row[0]: OpDef(*row) for row in _TABLE}
del _TABLE  # 10 KiB that the definitions have, too


class Op:
    """One step: its definition, its numbers (in table order), its strings (bytes), and the
    JSON pointer in config.json it came from ("" where it is pyoci's own)."""

    __slots__ = ("definition", "nums", "strs", "where")

    def __init__(self, definition: OpDef, nums: list[int], strs: list[bytes], where: str) -> None:
        self.definition = definition
        self.nums = nums
        self.strs = strs
        self.where = where

    @property
    def name(self) -> str:
        return self.definition.name

    def num(self, name: str) -> int:
        """The number called name."""
        return self.nums[self.definition.nums.index(name)]

    def string(self, name: str) -> bytes:
        """The string called name."""
        return self.strs[self.definition.strs.index(name)]

    def describe(self) -> str:
        """The sentence of this step: what `pyoci plan` prints and what errors name."""
        from pyoci.plan import wording

        return wording.describe(self)


def op(name: str, *strings: str | bytes, where: str = "", **numbers: int) -> Op:
    """Make an operation: strings in table order, numbers by name (absent ones are 0).

    Raises KeyError for an unknown operation or number, ValueError for a wrong count of strings
    or a NUL in one: both are programming errors, not bad input.
    """
    definition = OPS[name]
    nums = [numbers.pop(key, 0) for key in definition.nums]
    if numbers:
        raise KeyError(f"{name} has no {', '.join(numbers)}")
    strs = [s if isinstance(s, bytes) else s.encode("utf-8", "surrogateescape") for s in strings]
    many = definition.strs[-1:] and definition.strs[-1].endswith("*")
    if len(strs) < len(definition.strs) - bool(many) or (len(strs) > len(definition.strs) and not many):
        raise ValueError(f"{name} takes {definition.strs}, not {len(strs)} strings")
    return Op(definition, nums, strs, where)


def encode(ops: Iterable[Op]) -> bytes:
    """The plan as nsexec reads it.  Raises ValueError when that would be larger than it takes."""
    parts = [b""]
    total, count = HEADER.size, 0
    for item in ops:
        if len(item.strs) > MAX_STRINGS:
            raise ValueError(f"{item.name} has {len(item.strs)} strings, more than the {MAX_STRINGS} that nsexec reads")
        body = b"".join([LENGTH.pack(len(s)) + s + b"\0" for s in item.strs])
        body += b"\0" * (-(RECORD.size + len(body)) % 8)
        nums = item.nums + [0] * (NUMS - len(item.nums))
        parts.append(RECORD.pack(item.definition.code, len(item.strs), RECORD.size + len(body), *nums) + body)
        total += len(parts[-1])
        count += 1
        if total > MAX_PLAN:
            raise ValueError(f"the plan has more than the {MAX_PLAN} bytes that nsexec reads")
    parts[0] = HEADER.pack(MAGIC, total, count)
    return b"".join(parts)
