"""Mount options: words of config.json and mount(8) -> attributes, flags and data (rows M06 to M16)."""

from __future__ import annotations

from pyoci import errors, json, linux
from pyoci.plan import ops

_RO = linux.MOUNT_ATTR_RDONLY
_NOSUID = linux.MOUNT_ATTR_NOSUID
_NODEV = linux.MOUNT_ATTR_NODEV
_NOEXEC = linux.MOUNT_ATTR_NOEXEC
_ATIME = linux.MOUNT_ATTR__ATIME

# Attributes of one mount: word -> bits switched on, bits switched off.  The access time modes are one
# field of the kernel: asking for one switches the others off, taking one back leaves the kernel's
# default, relatime (mount_setattr(2) refuses to clear a part of the field).
ATTRIBUTES = {
    "ro": (_RO, 0),
    "rw": (0, _RO),
    "nosuid": (_NOSUID, 0),
    "suid": (0, _NOSUID),
    "nodev": (_NODEV, 0),
    "dev": (0, _NODEV),
    "noexec": (_NOEXEC, 0),
    "exec": (0, _NOEXEC),
    "nodiratime": (linux.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, linux.MOUNT_ATTR_NODIRATIME),
    "noatime": (linux.MOUNT_ATTR_NOATIME, _ATIME),
    "atime": (0, _ATIME),
    "strictatime": (linux.MOUNT_ATTR_STRICTATIME, _ATIME),
    "nostrictatime": (0, _ATIME),
    "relatime": (linux.MOUNT_ATTR_RELATIME, _ATIME),
    "norelatime": (0, 0),
    "nosymfollow": (linux.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, linux.MOUNT_ATTR_NOSYMFOLLOW),
    # mount(8): the words for fstab's users, and what they imply
    "user": (_NOSUID | _NODEV | _NOEXEC, 0),
    "users": (_NOSUID | _NODEV | _NOEXEC, 0),
    "owner": (_NOSUID | _NODEV, 0),
    "group": (_NOSUID | _NODEV, 0),
}
# The same for every mount of a tree (rows M10, M11): r + word.
RECURSIVE = {"r" + word: bits for word, bits in ATTRIBUTES.items() if word not in ("user", "users", "owner", "group")}
# Flags of the file system, not of the mount: word -> MS_* switched on, off.
FLAGS = {
    "sync": (linux.MS_SYNCHRONOUS, 0),
    "async": (0, linux.MS_SYNCHRONOUS),
    "dirsync": (linux.MS_DIRSYNC, 0),
    "mand": (linux.MS_MANDLOCK, 0),
    "nomand": (0, linux.MS_MANDLOCK),
    "iversion": (linux.MS_I_VERSION, 0),
    "noiversion": (0, linux.MS_I_VERSION),
    "lazytime": (linux.MS_LAZYTIME, 0),
    "nolazytime": (0, linux.MS_LAZYTIME),
    "silent": (linux.MS_SILENT, 0),
    "loud": (0, linux.MS_SILENT),
}
# How a bind mount looks at its source and destination (crun's words).
BIND_FLAGS = {
    "src-nofollow": ops.BIND_SOURCE_NOFOLLOW,
    "dest-nofollow": ops.BIND_DEST_NOFOLLOW,
    "copy-symlink": ops.BIND_COPY_SYMLINK,
}
# Words that mount(8) keeps to itself: they never reach the kernel (row M16).
NOTHING = frozenset(("defaults", "auto", "noauto", "_netdev", "nouser", "nousers", "noowner", "nogroup"))
_OTHERS = ("bind", "rbind", "remount", "idmap", "ridmap", "tmpcopyup", "defaults", "nofail")
# Every word that is understood, for `features`.
NAMES = (*ATTRIBUTES, *RECURSIVE, *FLAGS, *linux.PROPAGATION, *BIND_FLAGS, *_OTHERS)

IDMAP_TOP, IDMAP_TREE = 1, 2

_FROM_ATTR = (
    (_RO, linux.MS_RDONLY),
    (_NOSUID, linux.MS_NOSUID),
    (_NODEV, linux.MS_NODEV),
    (_NOEXEC, linux.MS_NOEXEC),
    (linux.MOUNT_ATTR_NOATIME, linux.MS_NOATIME),
    (linux.MOUNT_ATTR_STRICTATIME, linux.MS_STRICTATIME),
    (linux.MOUNT_ATTR_NODIRATIME, linux.MS_NODIRATIME),
    (linux.MOUNT_ATTR_NOSYMFOLLOW, linux.MS_NOSYMFOLLOW),
)


class Wanted:
    """What the options of one mount come to.

    on, off:         MOUNT_ATTR_* to set and to clear on the mount
    rec_on, rec_off: the same for all mounts of the tree
    flags:           MS_* of the file system (sync, lazytime ...)
    propagation:     MS_SHARED and its kin, 0 for none
    bind:            0, or ops.BIND_RECURSIVE, or -1 for a bind of just the one mount
    look:            ops.BIND_SOURCE_NOFOLLOW and its kin
    idmap:           0, IDMAP_TOP or IDMAP_TREE
    remount, copyup: bool
    nofail:          bool, a source that is not there is no error
    extra:           dict, mount(8)'s X-mount.NAME -> value
    data:            list of str, options for the file system itself
    """

    __slots__ = (
        "bind",
        "copyup",
        "data",
        "extra",
        "flags",
        "idmap",
        "look",
        "nofail",
        "off",
        "on",
        "propagation",
        "rec_off",
        "rec_on",
        "remount",
    )

    def __init__(self) -> None:
        self.on = self.off = self.rec_on = self.rec_off = self.flags = self.propagation = self.bind = 0
        self.look = self.idmap = 0
        self.remount = self.copyup = self.nofail = False
        self.extra: dict[str, str] = {}
        self.data: list[str] = []

    def ms_flags(self) -> int:
        """The attributes and flags as mount(2) takes them for a new file system, which has no mounts under
        it yet, so that recursive ones are plain ones."""
        on = self.on & ~self.rec_off | self.rec_on
        flags = self.flags
        for attribute, flag in _FROM_ATTR:
            if on & attribute:
                flags |= flag
        if (self.off | self.rec_off) & _ATIME and not on & _ATIME:
            flags |= linux.MS_RELATIME
        return flags


def parse(options: list[str], where: str) -> Wanted:
    """Read options in order: the later one wins.  where: JSON pointer of the mount."""
    wanted = Wanted()
    for index, option in enumerate(options):
        word = _layer(option)
        if word in ATTRIBUTES:
            on, off = ATTRIBUTES[word]
            wanted.on = wanted.on & ~off | on
            wanted.off = wanted.off & ~on | off
        elif word in linux.PROPAGATION:
            wanted.propagation = linux.PROPAGATION[word]
        elif word in RECURSIVE:
            on, off = RECURSIVE[word]
            wanted.rec_on = wanted.rec_on & ~off | on
            wanted.rec_off = wanted.rec_off & ~on | off
        elif word in FLAGS:
            on, off = FLAGS[word]
            wanted.flags = wanted.flags & ~off | on
        else:
            _other(wanted, word, f"{where}/options/{index}")
    return wanted


def _layer(option: str) -> str:
    """mount(8): "ro=recursive" and "ro=vfs" are attributes of the mounts and of the mount."""
    word, equals, layer = option.partition("=")
    if equals and word in ATTRIBUTES and layer in ("recursive", "vfs"):
        return "r" + word if layer == "recursive" else word
    return option


def _other(wanted: Wanted, word: str, where: str) -> None:
    if word == "rbind":
        wanted.bind = ops.BIND_RECURSIVE
    elif word == "bind":
        wanted.bind = wanted.bind or -1
    elif word in BIND_FLAGS:
        wanted.look |= BIND_FLAGS[word]
    elif word in ("idmap", "ridmap"):
        wanted.idmap = IDMAP_TOP if word == "idmap" else IDMAP_TREE
    elif word == "remount":
        wanted.remount = True
    elif word == "tmpcopyup":
        wanted.copyup = True
    elif word == "nofail":
        wanted.nofail = True
    elif word.startswith("X-mount."):
        name, _, value = word[8:].partition("=")
        wanted.extra[name] = _check_extra(name, value, where)
    elif word and word not in NOTHING and not word.lower().startswith(("x-", "comment=")):
        wanted.data.append(word)


def _check_extra(name: str, value: str, where: str) -> str:
    """The value of X-mount.NAME where its form can be seen to be wrong (row M16, mount(8)); others are comments."""
    good = True
    if name in ("mkdir", "mode"):
        # mkdir may come without a mode
        good = value == "" if name == "mkdir" and not value else octal(value) is not None
    elif name in ("owner", "group"):
        # a name is looked up when the plan is made (plan.mountextra)
        number = json.decimal(value)
        named = bool(value) and value[0] not in "-+" and ":" not in value and not value.isdigit()
        good = named if number is None else number < 0xFFFFFFFF
    elif name == "subdir":
        good = bool(value.strip("/")) and ".." not in value.split("/")
    if not good:
        raise errors.InvalidConfig(f"X-mount.{name} cannot be {errors.value(value)!r}", where=where)
    return value


def octal(text: str) -> int | None:
    """A file mode in octal digits, None for anything else."""
    good = 0 < len(text) <= 5 and all(digit in "01234567" for digit in text)
    return int(text, 8) if good and int(text, 8) <= 0o7777 else None
