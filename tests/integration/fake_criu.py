#!/usr/bin/python3
"""NOT criu: plays its part for the tests, on machines where criu cannot work.

It writes down how it was called ($FAKE_CRIU, one JSON line for each call), ends or spares the process tree at
dump, and makes a sleeping process at restore, as a sibling of itself and in the cgroups it was told, after it has
called the action script.  $FAKE_CRIU_FAIL: the word that fails; $FAKE_CRIU_UNFIT: `check` says that nothing works.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys

CLONE_PARENT, SYS_CLONE = 0x8000, {"x86_64": 56, "aarch64": 220}


def value(name: str) -> str:
    """The value of an option, "" when it was not given."""
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else ""


def dump() -> None:
    with open(f"{value('--images-dir')}/pages-1.img", "w") as file:
        file.write("memory")
    if sys.argv[1] == "dump" and "--leave-running" not in sys.argv:
        os.kill(int(value("--tree")), signal.SIGKILL)


def enter(pid: int) -> None:
    """Put the process into the cgroups of --cgroup-root."""
    for index, word in enumerate(sys.argv):
        if word == "--cgroup-root":
            controller, _, path = sys.argv[index + 1].rpartition(":")
            mount = "systemd" if controller == "name=systemd" else controller
            with open(f"/sys/fs/cgroup/{mount}/{path}/cgroup.procs", "w") as file:
                file.write(str(pid))


def restore() -> None:
    with open("/proc/self/mountinfo") as file:
        assert value("--root") in [line.split()[4] for line in file], "criu wants a mount point"
    pid = ctypes.CDLL(None).syscall(SYS_CLONE[os.uname().machine], CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os.write(1, b"goes on\n")
        os.execv("/bin/sleep", ["sleep", os.environ.get("FAKE_CRIU_SLEEP", "100")])
    enter(pid)
    environment = {**os.environ, "CRTOOLS_INIT_PID": str(pid)}
    for action in ("pre-restore", "setup-namespaces", "post-restore"):
        environment["CRTOOLS_SCRIPT_ACTION"] = action
        if subprocess.run([value("--action-script")], env=environment, check=False).returncode:
            os.kill(pid, signal.SIGKILL)
            sys.exit(1)
    with open(value("--pidfile"), "w") as file:
        file.write(str(pid))


def main() -> None:
    with open(os.environ["FAKE_CRIU"], "a") as file:
        file.write(json.dumps(sys.argv[1:]) + "\n")
    what = sys.argv[1]
    if what == "check":
        if os.environ.get("FAKE_CRIU_UNFIT"):
            sys.exit("Error (criu/vdso.c:613): vdso: no luck")
        return
    if os.environ.get("FAKE_CRIU_FAIL") == what:
        log = value("--log-file")
        with open(f"{value('--work-dir')}/{log}", "w") as file:
            file.write("(00.001) Info\n(00.002) Error (criu/x.c:1): cannot do that\n(00.003) more\n")
        sys.exit(1)
    {"dump": dump, "pre-dump": dump, "restore": restore}[what]()


main()
