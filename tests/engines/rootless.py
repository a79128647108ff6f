"""podman of a user without privileges: a user namespace, no cgroup rights, slirp4netns."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.engines.lab import IMAGE, SHELL_PATH, check, expect
from tests.engines.podman import Podman
from tests.engines.sandbox import UID, USER


class Rootless(Podman):
    """podman as the sandbox's user."""

    name = "rootless"
    needs = ("podman", "conmon", "newuidmap", "slirp4netns", "setpriv")

    def prefix(self) -> list[str]:
        """The words that make a command the user's."""
        ids = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--init-groups"]
        names = {"HOME": self.work / "home", "PATH": SHELL_PATH, "XDG_RUNTIME_DIR": f"/run/user/{UID}", "USER": USER}
        return [*ids, "env", "-i", *(f"{key}={value}" for key, value in names.items())]

    def command(self) -> list[str]:
        return [*self.prefix(), "podman", "--runtime", self.runtime]

    def begin(self) -> None:
        home = self.work / "home"
        for directory, mode in ((home, 0o755), (Path(f"/run/user/{UID}"), 0o700)):
            directory.mkdir(parents=True)
            os.chown(directory, UID, UID)
            directory.chmod(mode)
        os.chown(self.shared, UID, UID)
        os.chown(self.shared / "file", UID, UID)
        self.work.chmod(0o777)  # the commands' working directory
        shutil.copy(self.conf("containers.conf"), "/etc/containers/containers.conf")
        self("import", "-c", "CMD=/bin/sh", str(self.image), IMAGE)


@check("rootless", quick=True)
def rootless_owner(engine: Rootless) -> None:
    """Container root is the user outside, and the others are his subordinate ids."""
    name = engine.start("-u 1000")
    assert os.stat(f"/proc/{engine.pid(name)}").st_uid == 200999
    assert os.stat(f"/proc/{engine.pid(engine.box())}").st_uid == UID


@check("rootless")
def rootless_volume_owner(engine: Rootless) -> None:
    engine.sh(f"-v {engine.shared}:/v", "touch /v/mine; chown 1000 /v/mine")
    assert (engine.shared / "mine").stat().st_uid == 200999


@check("rootless")
def rootless_unshare(engine: Rootless) -> None:
    """The runtime called by hand in podman's user namespace."""
    argv = [*engine.command(), "unshare", engine.runtime, "--version"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=engine.work)
    assert done.returncode == 0, done.stderr
    assert " version " in done.stdout.splitlines()[0]


@check("rootless")
def rootless_proc_host(engine: Rootless) -> None:
    """With the host's pid namespace /proc is a bind mount."""
    expect("[1-9][0-9]*", engine.sh("--pid host", "ls -d /proc/[0-9]* | wc -l").out)


@check("rootless")
def rootless_state_place(engine: Rootless) -> None:
    """The runtime's state is under XDG_RUNTIME_DIR."""
    engine.box()
    assert not (Path("/run") / engine.flavour).exists()
    assert any(Path(f"/run/user/{UID}").glob(f"{engine.flavour}/*")), os.listdir(f"/run/user/{UID}")
