"""The real command on real containers: a store and a network namespace per test, and nothing left after it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pexpect

from tests.integration import harness
from tests.mydocker.conftest import MAIN, TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyoci.mydocker import paths


def children() -> list[int]:
    """The children of this process, dead ones too."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


class Docker:
    """mydocker on one store, in one network namespace."""

    def __init__(self, places: paths.Paths) -> None:
        self.places = places
        # a namespace lives as long as a process in it
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        self.enter = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]
        own = os.readlink("/proc/self/ns/net")
        harness.until(lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != own, "the network namespace", TIMEOUT)
        self.inside("ip", "link", "set", "lo", "up")
        self.marker = f"--root {places.root} "

    # -- calling ----------------------------------------------------------------------------------

    def argv(self, *args: str) -> list[str]:
        return [*self.enter, sys.executable, "-I", "-S", str(MAIN), "--root", self.places.root, *args]

    def __call__(self, *args: str, input: str | None = None, env: dict[str, str] | None = None) -> harness.Result:
        """Run it; whatever comes."""
        environ = {**os.environ, **(env or {})}
        stdin = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        done = subprocess.run(self.argv(*args), capture_output=True, text=True, timeout=TIMEOUT, env=environ, **stdin)
        assert "Traceback" not in done.stderr, done.stderr
        return harness.Result(done.returncode, done.stdout, done.stderr)

    def out(self, *args: str, **more: Any) -> str:
        """Run it well; gives stdout without the last newline."""
        result = self(*args, **more)
        assert result.code == 0, f"{shlex.join(args)} exited {result.code}: {result.err}"
        return result.out.rstrip("\n")

    def bytes(self, *args: str, input: bytes = b"", code: int = 0) -> bytes:
        """Its stdout, which is no text."""
        done = subprocess.run(self.argv(*args), capture_output=True, timeout=TIMEOUT, input=input)
        assert done.returncode == code, f"{shlex.join(args)} exited {done.returncode}: {done.stderr!r}"
        assert b"Traceback" not in done.stderr, done.stderr
        return done.stdout

    def popen(self, *args: str, **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(self.argv(*args), text=True, **more)

    def spawn(self, *args: str, rows: int = 24, columns: int = 80) -> pexpect.spawn[str]:
        """On a terminal of its own."""
        argv = self.argv(*args)
        return pexpect.spawn(
            argv[0], argv[1:], dimensions=(rows, columns), timeout=TIMEOUT, encoding="utf-8", echo=False
        )

    def inside(self, *args: str, check: bool = True) -> str:
        """A program of the host in the network namespace."""
        return subprocess.run([*self.enter, *args], capture_output=True, text=True, check=check, timeout=TIMEOUT).stdout

    def get(self, url: str) -> str:
        """What a web server says, once it does."""
        found = ""

        def asked() -> bool:
            nonlocal found
            found = self.inside("curl", "-s", "--max-time", "2", url, check=False)
            return bool(found)

        harness.until(asked, f"an answer of {url}", TIMEOUT)
        return found.strip()

    # -- looking ----------------------------------------------------------------------------------

    def inspect(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out("inspect", name))[0]
        return found

    def state(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.inspect(name)["State"]
        return found

    def status(self, name: str) -> str:
        return str(self.state(name)["Status"])

    def logs(self, name: str, *options: str) -> str:
        return self.out("logs", *options, name)

    def until(self, condition: Callable[[], Any], what: str) -> None:
        harness.until(condition, what, TIMEOUT)

    def conmon(self, name: str) -> int:
        """The pid of a container's monitor."""
        id = self.inspect(name)["Id"]
        return int(Path(self.places.run, id, "conmon.pid").read_text())

    # -- the end ----------------------------------------------------------------------------------

    def close(self) -> list[str]:
        """Remove every container; gives what is left after that."""
        ids = self("ps", "-aq", "--no-trunc").out.split()
        if ids:
            removing = self.popen("rm", "-f", "-v", *ids, stdout=subprocess.DEVNULL)
            # what `exec -d` left is our child now, and ends its pid namespace only when it is reaped
            harness.until(lambda: self._reap(removing), "rm -f", TIMEOUT)
        left: list[str] = []
        deadline = time.monotonic() + 30
        while (left := self.leftovers()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        self.holder.kill()
        self.holder.wait()
        harness.children()
        return left

    def _reap(self, known: subprocess.Popen[str]) -> bool:
        for pid in set(children()) - {known.pid, self.holder.pid}:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return known.poll() is not None

    def leftovers(self) -> list[str]:
        """Everything a container could have left."""
        found = [f"process {pid}" for pid in self.processes()]
        found += [f"device {line.split()[0]}" for line in self.inside("ip", "-br", "link").splitlines()][1:]
        found += [f"nftables: {line}" for line in self.inside("nft", "list", "tables").splitlines()]
        run = Path(self.places.run)
        found += [str(path) for path in run.iterdir() if path.name not in ("exits", "pyoci")]
        found += [str(path) for path in Path(run, "exits").glob("*")]
        found += [str(path) for path in Path(run, "pyoci").glob("[!.]*")]
        for directory in (self.places.containers, self.places.overlay):
            found += [str(path) for path in Path(directory).glob("[!.]*")]
        return found

    def processes(self) -> list[int]:
        """Of mydocker, conmon and the log writer of this store."""
        root = self.places.root.encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if root in line and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        return found
