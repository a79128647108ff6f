"""The id maps of a new user namespace, written from outside while its first process waits.

See user_namespaces(7), newuidmap(1).
"""

from __future__ import annotations

from pyoci import errors, kernel

# where the set-uid helpers may be: no PATH, engines call without one
_DIRECTORIES = ("/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin")


def write(pid: int, uid_map: str, gid_map: str, *, euid: int) -> None:
    """Give the user namespace of pid its maps ("containerID hostID size" lines).

    euid 0 (with the capabilities of its user namespace) writes them itself.  Anybody else may map just
    himself, giving up setgroups(2) for it; more ids are the business of newuidmap and newgidmap.
    Raises errors.SetupError.
    """
    if euid == 0:
        _write(pid, "uid_map", uid_map)
        _write(pid, "gid_map", gid_map)
        return
    if _only(uid_map, euid):
        _write(pid, "uid_map", uid_map)
    else:
        _helper("newuidmap", pid, uid_map)
    if _only(gid_map, kernel.getegid()):
        _write(pid, "setgroups", "deny")
        _write(pid, "gid_map", gid_map)
    else:
        _helper("newgidmap", pid, gid_map)


def _only(lines: str, own: int) -> bool:
    """Whether the map is the one line that the kernel lets everybody write: oneself."""
    fields = lines.split()
    return len(fields) == 3 and fields[1:] == [str(own), "1"]


def _write(pid: int, name: str, text: str) -> None:
    if not text:
        return
    try:
        fd = kernel.open(f"/proc/{pid}/{name}", kernel.O_WRONLY | kernel.O_CLOEXEC)
        try:
            kernel.write(fd, text.encode())  # the kernel takes a map in one write only
        finally:
            kernel.close(fd)
    except OSError as error:
        raise errors.failed(f"write {name} ({_inline(text)})", error, _where(name)) from None


def helper_path(program: str) -> str:
    """Where newuidmap or newgidmap is, or ""."""
    for directory in _DIRECTORIES:
        try:
            kernel.stat(f"{directory}/{program}")
        except OSError:
            continue
        return f"{directory}/{program}"
    return ""


def _helper(program: str, pid: int, lines: str) -> None:
    if not lines:
        return
    from pyoci.host import child

    name = program[3:6] + "_map"
    path = helper_path(program)
    if path:
        try:
            result = child.run(path, [program, str(pid), *lines.split()], {"PATH": "/usr/bin:/bin"})
        except OSError as error:
            raise errors.failed(f"run {path}", error, _where(name), child.refused(error)) from None
        if result.status:
            raise errors.SetupError(
                f"{program} ({_inline(lines)}): {result.why()}",
                where=_where(name),
                hint="the ids have to be in /etc/subuid and /etc/subgid",
            )
        return
    raise errors.SetupError(
        f"{program} not found, and only root can write this {name}: {_inline(lines)}",
        where=_where(name),
        hint="install uidmap, or map a single id to yourself",
    )


def _where(name: str) -> str:
    return "" if name == "setgroups" else f"/linux/{name[:3]}Mappings"


def _inline(lines: str) -> str:
    return ", ".join(lines.split("\n")).rstrip(", ")
