"""What the tests in the machine share: systemd asked by its own tool, cgroup files, ordinary users."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.integration.harness import RUNTIME, TIMEOUT, Result

if TYPE_CHECKING:
    from tests.integration.harness import Box

CGROUPS = Path("/sys/fs/cgroup")
MIB = 1 << 20


def systemctl(*args: str, user: str = "") -> Result:
    """systemctl, of the system's or of a user's manager."""
    command = ["systemctl", *args]
    if user:
        command = [*as_user(user), "systemctl", "--user", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    return Result(done.returncode, done.stdout, done.stderr)


def shown(unit: str, *names: str, user: str = "") -> dict[str, str]:
    """Properties of a unit, as `systemctl show` prints them."""
    lines = systemctl("show", unit, *[f"--property={name}" for name in names], user=user).out.splitlines()
    return dict(line.split("=", 1) for line in lines)


def as_user(name: str) -> list[str]:
    """The words before a command that an ordinary user with a session is to run."""
    uid = pwd.getpwnam(name).pw_uid
    environment = [f"XDG_RUNTIME_DIR=/run/user/{uid}", f"DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{uid}/bus"]
    return ["runuser", "-u", name, "--", "env", *environment]


def check_devices(scoped: Box) -> None:
    """C23: a device stays shut, also when systemd has written rules of its own again, until `update` opens it.

    It writes them after a reload, and when `update` tells it of another limit.
    """
    scoped.linux["resources"]["devices"] = [{"allow": False, "access": "rwm"}]
    scoped.linux["devices"] = [{"path": "/dev/disk", "type": "b", "major": 254, "minor": 0, "fileMode": 0o666}]
    scoped.up()
    look = ("sh", "-c", "head -c1 /dev/disk | wc -c")
    assert scoped.exec(*look).out == "0\n"
    assert systemctl("daemon-reload").code == 0
    assert scoped.exec(*look).out == "0\n"
    scoped.rt("update", "--pids-limit", "50", scoped.id)
    assert scoped.exec(*look).out == "0\n"
    assert scoped.exec("sh", "-c", "head -c1 /dev/zero >/dev/null").code == 0
    file = scoped.bundle / "resources.json"
    file.write_text('{"devices": [{"allow": true, "access": "rwm"}]}')
    scoped.rt("update", "--resources", str(file), scoped.id)
    assert scoped.exec(*look).out == "1\n"
    assert scoped.exec("sh", "-c", "head -c1 /dev/zero >/dev/null").code == 0


def cgroup_of(pid: int | str) -> Path:
    """The directory of the cgroup that a process is in."""
    return Path(f"{CGROUPS}{Path(f'/proc/{pid}/cgroup').read_text().strip().removeprefix('0::')}")


def fetched(url: str) -> str:
    """What a web server says; "" as long as it does not."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            return str(answer.read(), "utf-8")
    except OSError:
        return ""


def read(directory: Path, name: str) -> str:
    return (directory / name).read_text().strip()


class User:
    """A box driven by an ordinary user, with the config that `spec --rootless` gives him, in his systemd session.

    scope: run each command in a scope of its own that is delegated to him, as `systemd-run --user --scope` makes it
    """

    def __init__(self, box: Box, name: str, scope: bool = False) -> None:
        self.box = box
        self.name = name
        self.scope = scope
        self.session = False  # as by login: PAM makes a session, whose scope is the system's
        self.uid = pwd.getpwnam(name).pw_uid
        self.root = f"/run/user/{self.uid}/{box.id}"
        for path in (box.bundle, box.rootfs, *box.rootfs.iterdir()):
            os.chown(path, self.uid, self.uid, follow_symlinks=False)
        done = self.command("pyoci", "spec", "--rootless", "--bundle", str(box.bundle))
        assert done.code == 0, done.err
        self.config: dict[str, Any] = json.loads((box.bundle / "config.json").read_text())
        self.config["process"]["terminal"] = False
        # so that a container can say where the host has it
        self.linux["namespaces"] = [one for one in self.linux["namespaces"] if one["type"] != "cgroup"]

    @property
    def linux(self) -> dict[str, Any]:
        linux: dict[str, Any] = self.config["linux"]
        return linux

    def command(self, *args: str, out: Path | None = None) -> Result:
        """Run something as the user."""
        words = as_user(self.name)
        if self.session:
            words[:4] = [*"systemd-run --quiet --wait --pipe --property=PAMName=login".split(), f"--uid={self.name}"]
        if self.scope:
            words += ["systemd-run", "--user", "--scope", "--quiet", "--property=Delegate=yes", "--"]
        words += [RUNTIME[0] if args[0] == "pyoci" else args[0], *args[1:]]
        if out:  # what stays behind must not hold a pipe of ours
            with out.open("w+", encoding="utf-8") as file:
                code = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False).returncode
                file.seek(0)
                return Result(code, "", file.read())
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        return Result(done.returncode, done.stdout, done.stderr)

    def rt(self, *args: str, out: Path | None = None) -> Result:
        return self.command("pyoci", "--root", self.root, *args, out=out)

    def write(self) -> None:
        (self.box.bundle / "config.json").write_text(json.dumps(self.config))

    def run(self, script: str, *options: str) -> Result:
        """The container runs a shell script in the foreground."""
        self.config["process"]["args"] = ["sh", "-c", script]
        self.write()
        return self.rt(*options, "run", "--bundle", str(self.box.bundle), self.box.id)

    def up(self, *options: str, script: str = "exec sleep 1000") -> int:
        """A container that runs a script, or sleeps; the pid of its init."""
        self.config["process"]["args"] = ["sh", "-c", script]
        self.write()
        out = self.box.bundle / "create.out"
        done = self.rt(*options, "create", "--bundle", str(self.box.bundle), self.box.id, out=out)
        assert done.code == 0, done.err
        started = self.rt("start", self.box.id)
        assert started.code == 0, started.err
        return int(json.loads(self.rt("state", self.box.id).out)["pid"])

    def delete(self) -> None:
        done = self.rt("delete", "--force", self.box.id)
        assert done.code == 0, done.err
