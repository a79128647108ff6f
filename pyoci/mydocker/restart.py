"""Restart policies.  conmon's exit command asks whether, and leaves a process behind that waits and starts.

After a reboot nobody is there to ask: the generated unit (`mydocker system unit`) starts what is to run.
"""

from __future__ import annotations

import os
import subprocess
import time

from pyoci.mydocker import clock, errors, monitor, numbers, processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.mydocker.containers import Container
    from pyoci.mydocker.observed import State

_FIRST, _LONGEST = 0.1, 60.0  # seconds; doubled each time
_HEALTHY = 10.0  # seconds after which the count begins anew
POLICIES = ("no", "on-failure", "always", "unless-stopped")


def parse(text: str) -> dict[str, Any]:
    """--restart POLICY[:MAX].  Raises errors.UsageError."""
    name, colon, count = text.partition(":")
    if name not in POLICIES:
        raise errors.UsageError(f"invalid restart policy {text!r}", hint="no, on-failure[:N], always, unless-stopped")
    most = numbers.decimal(count) if colon else 0
    if most is None or (colon and name != "on-failure"):
        raise errors.UsageError(f"invalid restart policy {text!r}: only on-failure has a maximum number")
    return {"name": name, "max": most}


def delay(policy: dict[str, Any], state: State) -> float | None:
    """Seconds until a container that has ended is started again; None for never."""
    name = policy["name"]
    if state.stopped or name == "no":
        return None
    if name == "on-failure" and (state.exit_code == 0 or (policy["max"] and state.restarts >= policy["max"])):
        return None
    return float(min(_LONGEST, _FIRST * 2 ** min(count(state), 16)))


def count(state: State) -> int:
    """How many times in a row it has been restarted; one that ran for a while has a clean slate."""
    ran = clock.seconds(state.finished) - clock.seconds(state.started)
    return 0 if ran > _HEALTHY else state.restarts


def later(container: Container, seconds: float) -> None:
    """Leave a process behind that starts it after a while."""
    with container.lock():
        process = subprocess.Popen(
            monitor.own_command(container.paths, "_restart", container.id, str(seconds)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=monitor.environment(),
            cwd="/",
            start_new_session=True,
        )
        container.save_facts(waiter=[process.pid, processes.start_time(process.pid)])


def cancel(container: Container) -> None:
    """End that process; the caller holds the lock."""
    pid, start = container.facts()["waiter"]
    processes.kill(pid, start)
    container.save_facts(waiter=[0, 0])


def now(container: Container, seconds: float) -> None:
    """That process: wait, and start it unless somebody has stopped, started or removed it meanwhile."""
    from pyoci.mydocker import lifecycle

    time.sleep(seconds)
    with container.lock():
        state = container.state()
        if state.status != "restarting" or container.facts()["waiter"][0] != os.getpid():
            return
    lifecycle.start(container, count=count(state) + 1)


def at_boot(container: Container) -> bool:
    """Whether a container is to run after a reboot, which was the end of all."""
    state = container.state()
    name = container.host["restart"]["name"] if container.host else "no"
    if state.alive or not state.started:
        return False
    return name == "always" or (name in ("unless-stopped", "on-failure") and not state.stopped)


def unit(paths: Any) -> str:
    """A systemd unit that starts, at boot, the containers whose policy says so."""
    command = " ".join(monitor.own_command(paths, "_boot"))
    return f"""\
# Starts the containers of {paths.root} that a restart policy wants to run after a reboot.
# Each gets a conmon of its own, which outlives this command; so there is no daemon to keep running.
[Unit]
Description=Containers of mydocker with a restart policy
After=network-online.target local-fs.target
Wants=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
KillMode=none
ExecStart={command}

[Install]
WantedBy=multi-user.target
"""
