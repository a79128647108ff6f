"""linux.sysctl: only what belongs to a namespace that the container does not share (row Z01)."""

from __future__ import annotations

from pyoci import errors
from pyoci.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.plan.draft import Draft

# path under /proc/sys (a prefix when it ends in "/") -> the namespace it belongs to
_OWNER = {
    "net/": "network",
    "fs/mqueue/": "ipc",
    "kernel/msgmax": "ipc",
    "kernel/msgmnb": "ipc",
    "kernel/msgmni": "ipc",
    "kernel/auto_msgmni": "ipc",
    "kernel/msg_next_id": "ipc",
    "kernel/sem": "ipc",
    "kernel/sem_next_id": "ipc",
    "kernel/shmall": "ipc",
    "kernel/shmmax": "ipc",
    "kernel/shmmni": "ipc",
    "kernel/shm_next_id": "ipc",
    "kernel/shm_rmid_forced": "ipc",
    "user/": "user",
    "kernel/hostname": "uts",
    "kernel/domainname": "uts",
}
_SWAP = str.maketrans("./", "/.")


def make(draft: Draft) -> list[ops.Op]:
    """One op per key.  Raises InvalidConfig for a key of the whole host."""
    steps = []
    for key, value in (draft.linux.get("sysctl") or {}).items():
        where = "/linux/sysctl/" + key.replace("~", "~0").replace("/", "~1")
        path = path_of(key, where)
        kind = owner(path)
        if kind is None:
            raise errors.InvalidConfig(f"sysctl {key} belongs to no namespace: it would change the host", where=where)
        if kind not in draft.namespaces:
            raise errors.InvalidConfig(
                f"sysctl {key} needs the container's own {kind} namespace",
                where=where,
                hint=f'add {{"type": "{kind}"}} to linux.namespaces',
            )
        if path == "kernel/hostname" and draft.config.get("hostname"):
            raise errors.InvalidConfig("sysctl kernel.hostname contradicts hostname", where=where)
        steps.append(ops.op("sysctl", path, value, where=where))
    return steps


def path_of(key: str, where: str) -> str:
    """The path under /proc/sys.  As sysctl(8): the separator that comes first is the separator, and the
    other one stands for itself ("net.ipv4.conf.eth0/1.forwarding" is of eth0.1)."""
    dot, slash = key.find("."), key.find("/")
    path = key if slash >= 0 and (dot < 0 or slash < dot) else key.translate(_SWAP)
    if not path.isprintable() or any(part in ("", ".", "..") for part in path.split("/")):
        raise errors.InvalidConfig(f"{key!r} is no sysctl", where=where)
    return path


def owner(path: str) -> str | None:
    """The type of the namespace that a path under /proc/sys belongs to, None for the whole host's."""
    if path in _OWNER:
        return _OWNER[path]
    first, _, rest = path.partition("/")
    second, _, name = rest.partition("/")
    return _OWNER.get(first + "/" if second else "") or _OWNER.get(f"{first}/{second}/" if name else "")
