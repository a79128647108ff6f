"""An ordinary user: the namespaces in which it is root, shared by all its commands.

Images have files of many owners, overlay mounts need CAP_SYS_ADMIN, and what one command has mounted the next one must
see.  So the first command makes a user and a mount namespace, which a `sleep` holds, and every command joins them.
The ids are those that /etc/subuid and /etc/subgid give the user, by newuidmap(1); without them there is the user's own.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys

from pyoci.mydocker import calls, errors, processes, records

UID_VARIABLE = "MYDOCKER_ROOTLESS_UID"
_EVERYBODY = ["0", "0", "4294967295"]  # /proc/self/uid_map outside of any user namespace
_PROGRAMS = "/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin"


def active() -> bool:
    """Whether we are in the user namespace that an ordinary user's mydocker made."""
    if UID_VARIABLE not in os.environ:
        return False
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.readline().split() != _EVERYBODY


def enter(run: str) -> None:
    """Become root in the caller's namespaces, made when there are none; nothing for root.  Before any thread.

    run: directory of the caller's own.  Raises errors.Error with what the machine does not allow.
    """
    uid = os.geteuid()
    if uid == 0:
        return
    os.makedirs(run, 0o700, exist_ok=True)
    with records.Lock(f"{run}/rootless.lock"):
        pid = _holder(f"{run}/rootless.json") or _make(f"{run}/rootless.json")
        directory = os.getcwd()
        try:
            fd = os.pidfd_open(pid)
            calls.join(fd, calls.CLONE_NEWUSER | calls.CLONE_NEWNS)
            os.close(fd)
            os.chdir(directory)  # joining has led to the root
        except OSError as error:
            raise errors.Error(f"cannot join the user namespace of {pid}: {error.strerror}") from None
    os.environ[UID_VARIABLE] = str(uid)


def _holder(path: str) -> int | None:
    """The process that holds the namespaces, if it is still that one."""
    try:
        found = records.read(path)
    except (FileNotFoundError, records.Broken):
        return None
    pid, start = found.get("pid"), found.get("start")
    if not isinstance(pid, int) or not isinstance(start, int):
        return None
    return pid if processes.alive(pid, start) else None  # a zombie holds no namespaces any more


def _make(path: str) -> int:
    """The namespaces, their holder, and the record of it; gives its pid."""
    ready, going = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _hold(ready[1], going[0])
    os.close(ready[1])
    os.close(going[0])
    try:
        if os.read(ready[0], 1) != b"u":
            raise errors.Error(
                "an ordinary user cannot make a user namespace here",
                hint="see the sysctls user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns",
            )
        _map(pid)
        os.write(going[1], b"g")
        os.read(ready[0], 1)  # ends when it executes
        records.write(path, {"pid": pid, "start": processes.start_time(pid)})
    except BaseException:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(ready[0])
        os.close(going[1])
    return pid


def _hold(ready: int, going: int) -> None:
    """In the child: new namespaces, then `sleep`, with nothing of the caller's open."""
    try:
        os.setsid()
        calls.unshare(calls.CLONE_NEWUSER | calls.CLONE_NEWNS)
        os.write(ready, b"u")
        if os.read(going, 1) == b"g":
            os.chdir("/")
            null = os.open(os.devnull, os.O_RDWR)
            for number in range(3):
                os.dup2(null, number)
            os.execve("/bin/sleep", ["sleep", "infinity"], {})
    finally:
        os._exit(1)


def _map(pid: int) -> None:
    """Root there is the caller; the ids from 1 on are those that the system gives it."""
    user = _name(os.getuid())
    subordinate = {kind: ranges(f"/etc/sub{kind}", user, str(os.getuid())) for kind in ("uid", "gid")}
    own = {"uid": os.getuid(), "gid": os.getgid()}
    programs = {kind: shutil.which(f"new{kind}map", path=_PROGRAMS) for kind in own}
    if all(subordinate.values()) and all(programs.values()):
        for kind, identity in own.items():
            words = ["0", str(identity), "1"]
            first = 1
            for start, count in subordinate[kind]:
                words += [str(first), str(start), str(count)]
                first += count
            done = subprocess.run([str(programs[kind]), str(pid), *words], capture_output=True, text=True, check=False)
            if done.returncode:
                raise errors.Error(f"new{kind}map refuses: {done.stderr.strip()}", hint=f"see /etc/sub{kind}")
        return
    sys.stderr.write(
        "mydocker: warning: there is only one id for files and users of images; "
        f"newuidmap and lines for {user} in /etc/subuid and /etc/subgid give more\n"
    )
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {own['uid']} 1"), ("gid_map", f"0 {own['gid']} 1")):
        with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def ranges(path: str, *names: str) -> list[tuple[int, int]]:
    """subuid(5): the ranges (first, count) of a user, by name or number; [] when there are none."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip().split(":") for line in file]
    except OSError:
        return []
    return [
        (int(line[1]), int(line[2]))
        for line in lines
        if len(line) == 3 and line[0] in names and line[1].isdecimal() and line[2].isdecimal()
    ]
