"""What is known of a container's last run, and what it is doing."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UNKNOWN_EXIT = 255  # nobody was there to see it: a reboot, a monitor that was killed
FRESH: dict[str, Any] = {
    "started": None,
    "finished": None,
    "exit_code": 0,
    "error": "",
    "oom": False,
    "monitor": [0, 0],  # conmon's pid and start time
    "run": "",  # a random name of the run, so that the end of an older one is not taken for its end
    "restarts": 0,
    "waiter": [0, 0],  # pid and start time of the process that will restart it
    "stopped": False,  # by the user: no restart policy but `always` brings it back, and that at boot only
}


class State:
    """What a container is doing.

    status: created, running, paused, restarting, exited or dead (its record cannot be read)
    pid: int, 0 unless it runs; started, finished: RFC 3339 or None; exit_code: int; error: str; oom: bool
    """

    def __init__(self, status: str, pid: int, facts: dict[str, Any]) -> None:
        self.status = status
        self.pid = pid
        self.started: str | None = facts["started"]
        self.finished: str | None = facts["finished"]
        self.exit_code: int = facts["exit_code"]
        self.error: str = facts["error"]
        self.oom: bool = facts["oom"]
        self.restarts: int = facts["restarts"]
        self.stopped: bool = facts["stopped"]
        self.monitor: list[int] = facts["monitor"]

    @property
    def alive(self) -> bool:
        """Whether there is a process."""
        return self.status in ("running", "paused")
