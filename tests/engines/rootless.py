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
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd=engine.work)
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


# -- a user with one id ---------------------------------------------------------------------------------


def single(engine: Rootless, *args: str) -> subprocess.CompletedProcess[str]:
    """podman of a user who has no subordinate ids: one id is mapped, setgroups(2) is denied."""
    home, run = engine.work / "home1", Path(f"/run/user/{UID + 1}")
    for directory, mode in ((home, 0o755), (run, 0o700)):
        if not directory.exists():
            directory.mkdir()
            os.chown(directory, UID + 1, UID + 1)
            directory.chmod(mode)
            (home / "storage.conf").write_text(
                '[storage]\ndriver = "overlay"\n[storage.options.overlay]\nignore_chown_errors = "true"\n'
            )
    ids = ["setpriv", "--reuid", str(UID + 1), "--regid", str(UID + 1), "--clear-groups"]
    names = {"HOME": home, "PATH": SHELL_PATH, "XDG_RUNTIME_DIR": run, "CONTAINERS_STORAGE_CONF": home / "storage.conf"}
    env = ["env", "-i", *(f"{key}={value}" for key, value in names.items())]
    argv = [*ids, *env, "podman", "--runtime", engine.runtime, *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd=engine.work)


@check("rootless", quick=True)
def single_id(engine: Rootless) -> None:
    done = single(engine, "import", str(engine.image), IMAGE)
    assert done.returncode == 0, done.stderr
    done = single(engine, "run", "--rm", IMAGE, "/bin/sh", "-c", "cat /proc/self/uid_map; id -u")
    expect(rf"0\s+{UID + 1}\s+1\n0", done.stdout or done.stderr)


@check("rootless")
def single_id_build(engine: Rootless) -> None:
    """buildah asks for additional groups, which nobody may set here."""
    context = engine.work / "single"
    context.mkdir()
    (context / "Containerfile").write_text("FROM localhost/box\nRUN id -u\n")
    done = single(engine, "build", str(context))
    assert done.returncode == 0, done.stderr
    assert "\n0\n" in done.stdout


@check("rootless")
def single_id_exec(engine: Rootless) -> None:
    name = single(engine, "run", "-d", IMAGE, "sleep", "100").stdout.strip()
    try:
        done = single(engine, "exec", name, "id", "-u")
        assert done.stdout == "0\n", done.stderr
    finally:
        single(engine, "rm", "-f", "-t", "0", name)
