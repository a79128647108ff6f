"""Run the criu program, and say what it says."""

from __future__ import annotations

import os
import shutil
import subprocess

from pyoci import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CONFIGS = ("/etc/criu/pyoci.conf", "/etc/criu/runc.conf")
ANNOTATION = "org.criu.config"


def find(program: str) -> str:
    """The path of criu.  program: of --criu, or "".  Raises errors.SetupError."""
    found = shutil.which(program or "criu", path=os.environ.get("PATH") or PATH) or shutil.which(program, path=PATH)
    if found is None:
        raise errors.SetupError(
            f"{program or 'criu'}: executable file not found in $PATH", hint="install criu, or name it with --criu"
        )
    return os.path.abspath(found)


def config(annotations: dict[str, str]) -> str:
    """The configuration file for criu: of the annotation, or one for runtimes, or ""."""
    if ANNOTATION in annotations:
        return annotations[ANNOTATION]
    return next((file for file in CONFIGS if os.path.exists(file)), "")


def directory(path: str) -> str:
    """An absolute directory for criu, made when it is missing.  Raises errors.SetupError."""
    path = os.path.abspath(path)
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        text = errors.errno_text(error.errno or 0)
        raise errors.SetupError(f"make {path}: {text}", errno=error.errno or 0) from None
    return path


def environment() -> dict[str, str]:
    """criu calls iptables, tar and others."""
    return {**os.environ, "PATH": os.environ.get("PATH") or PATH}


def run(program: str, argv: Sequence[str], what: str, log: str, pass_fds: Sequence[int] = ()) -> None:
    """Call criu and wait for it.  what: "dump" or "restore".  log: its log.  Raises errors.SetupError."""
    null = subprocess.DEVNULL
    done = subprocess.run(
        [program, *argv], stdin=null, stdout=null, stderr=null, env=environment(), pass_fds=pass_fds, check=False
    )
    if done.returncode:
        raise failure(program, what, done.returncode, log)


def failure(program: str, what: str, status: int, log: str) -> errors.SetupError:
    """The error for a criu that failed: in the words of runc, which containerd looks for, with criu's own reason."""
    reason = last_error(log)
    unfit = unable(program)
    if unfit:
        reason = f"criu cannot work on this machine: {unfit}" + (f" ({reason})" if reason else "")
    text = f"criu failed: type {what.upper()} errno 0: {reason or f'exit status {status}'}"
    return errors.SetupError(f"{text}, log file: {log}", hint="`criu check` tells more" if unfit else "")


def last_error(log: str) -> str:
    """The last line of a log of criu that says Error, without the time."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file if "Error" in line]
    except OSError:
        return ""
    return lines[-1][lines[-1].index("Error") :][:300] if lines else ""


def unable(program: str) -> str:
    """Why `criu check` says that it cannot work here, "" when it can."""
    try:
        done = subprocess.run(
            [program, "check"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return "" if done.returncode == 0 else (said[-1].strip()[:300] if said else f"exit status {done.returncode}")


def require_dirty_tracking(program: str) -> None:
    """Raise errors.SetupError where the kernel cannot tell which memory has changed: pre-dumps need it."""
    command = [program, "check", "--feature", "mem_dirty_track"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=environment(), check=False)
    if done.returncode:
        reason = unable(program)
        raise errors.SetupError(
            f"criu cannot work on this machine: {reason}"
            if reason
            else "this kernel does not track changed memory (soft-dirty), which --pre-dump needs"
        )
