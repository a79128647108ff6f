"""Who watches a pull or a push: bars on a terminal, lines elsewhere, nothing with -q."""

from __future__ import annotations

import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from rich.progress import TaskID

    from pyoci.mydocker.transfer import Progress as Watcher

_STEPS = ("Downloading", "Pushing")  # told many times


class Lines:
    """One line per layer and step."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, digest: str, what: str, done: int = 0, total: int = 0) -> None:
        """As docker without a terminal."""
        if what not in _STEPS:
            with self.lock:
                sys.stdout.write(f"{short(digest)}: {what}\n")
                sys.stdout.flush()


class Bars:
    """A bar per layer, by rich."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        self.lock = threading.Lock()
        self.tasks: dict[str, TaskID] = {}
        self.progress = Progress(
            TextColumn("{task.fields[layer]}: {task.description:<20}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
        )

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def update(self, digest: str, what: str, done: int = 0, total: int = 0) -> None:
        """Make the bar at the first call; go on with it at the others."""
        with self.lock:
            if digest not in self.tasks:
                self.tasks[digest] = self.progress.add_task(what, total=total or None, layer=short(digest))
            task = self.tasks[digest]
            if total:
                self.progress.update(task, description=what, completed=done, total=total)
            else:
                self.progress.update(task, description=what)


def watcher(quiet: bool = False) -> Lines | Bars | None:
    """What suits stdout; a context manager, or None."""
    if quiet:
        return None
    return Bars() if sys.stdout.isatty() else Lines()


def short(digest: str) -> str:
    """Twelve digits, as everywhere."""
    return digest.removeprefix("sha256:")[:12]


if TYPE_CHECKING:
    _lines: type[Watcher] = Lines
    _bars: type[Watcher] = Bars
