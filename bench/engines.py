"""Engines on pyoci, runc and crun, in one run: what a user of podman or Docker feels; see README.md beside this file.

Each engine runs in the sandbox of tests/engines (daemons, directories, network and cgroups of its own), and calls the
runtimes in turn, round by round.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from functools import partial as bind
from pathlib import Path
from typing import TYPE_CHECKING

import bench

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from tests.engines import lab, sandbox  # noqa: E402
from tests.engines.docker import Docker  # noqa: E402
from tests.engines.podman import Podman  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

MARKS = ("<!-- bench: written by `make bench-engines` -->", "<!-- bench: end of engines -->")
NOOP = "true"
MANY = 20
NICE = -10  # so that what else runs on the machine counts less
Values = dict[str, dict[str, list[float]]]  # operation -> runtime -> milliseconds


class BenchPodman(Podman):
    """podman; the runtime is said call by call."""

    def command(self) -> list[str]:
        return ["podman"]

    def run_with(self, runtime: str) -> list[str]:
        """`run`, up to its further options."""
        return ["podman", "--runtime", runtime, "run"]


class BenchDocker(Docker):
    """dockerd, which knows every runtime by a name."""

    def __init__(self, work: Path, runtimes: list[str]) -> None:
        super().__init__(work, runtimes[0])
        self.options = tuple(f"--add-runtime=bench-{Path(path).name}={path}" for path in runtimes)

    def run_with(self, runtime: str) -> list[str]:
        """`run`, up to its further options."""
        return [*self.command(), "run", "--runtime", f"bench-{Path(runtime).name}"]


class EngineBench:
    """The measurements of one engine."""

    def __init__(self, engine: BenchPodman | BenchDocker, runtimes: list[str], rounds: int, rounds_many: int) -> None:
        self.engine = engine
        self.runtimes = runtimes
        self.rounds = rounds
        self.rounds_many = rounds_many
        self.errors = engine.work / "errors"
        self.values: Values = {}

    def measure(self, what: str, action: Callable[[str], None], rounds: int, warm_up: int) -> None:
        """Every runtime in turn, under the name of its file."""
        operation = f"{self.engine.name} {what}"
        print(f"{operation}...", file=sys.stderr, flush=True)
        actions = {Path(runtime).name: bind(action, runtime) for runtime in self.runtimes}
        self.values[operation] = bench.interleave(actions, rounds, warm_up)

    def all(self) -> Values:
        self.measure("run --rm", self.run, self.rounds, bench.WARM_UP)
        self.exec()
        self.measure(f"run --rm, {MANY} at once", self.many, self.rounds_many, 1)
        return self.values

    def call(self, argv: list[str]) -> None:
        program = shutil.which(argv[0])
        assert program, argv[0]
        bench.call([program, *argv[1:]], self.errors)

    def run(self, runtime: str) -> None:
        self.call([*self.engine.run_with(runtime), "--rm", lab.IMAGE, NOOP])

    def exec(self) -> None:
        """In a container that stays, one for each runtime."""
        standing = {}
        for runtime in self.runtimes:
            standing[runtime] = f"stays-{Path(runtime).name}"
            words = [*self.engine.run_with(runtime), "-d", "--name", standing[runtime], lab.IMAGE, "sleep", "100000"]
            self.call(words)
        words = self.engine.command()
        self.measure("exec", lambda runtime: self.call([*words, "exec", standing[runtime], NOOP]), self.rounds, 3)
        self.call([*words, *self.engine.remove, *standing.values()])

    def many(self, runtime: str) -> None:
        """As many `run --rm` as there are, started together; until the last has returned."""
        argv = [*self.engine.run_with(runtime), "--rm", lab.IMAGE, NOOP]
        null = subprocess.DEVNULL
        running = [subprocess.Popen(argv, stdin=null, stdout=null, stderr=subprocess.PIPE) for _ in range(MANY)]
        for process in running:
            said = process.communicate()[1].decode(errors="replace").strip()
            if process.returncode:
                raise bench.Failed(f"{' '.join(argv)}: exit status {process.returncode}: {said}")


def measured(name: str, work: Path, runtimes: list[str], rounds: int, rounds_many: int) -> Values:
    """Start an engine, measure, end it.  In the sandbox."""
    lab.make_image(work)
    engine = BenchPodman(work, runtimes[0]) if name == "podman" else BenchDocker(work, runtimes)
    try:
        engine.begin()
        return EngineBench(engine, runtimes, rounds, rounds_many).all()
    finally:
        engine.finish()


def drive(name: str, runtimes: list[str], rounds: int, rounds_many: int) -> Values:
    """One engine in a sandbox.  Raises bench.Failed."""
    work = Path(f"/tmp/pyoci-bench-{os.getpid()}-{name}")
    work.mkdir()
    reader, writer = os.pipe()

    def inside() -> int:
        values = measured(name, work, runtimes, rounds, rounds_many)
        os.write(writer, json.dumps(values).encode())  # less than what a pipe holds
        return 0

    try:
        status = sandbox.run(work, inside)
    finally:
        os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        text = pipe.read()
    if status:
        raise bench.Failed(f"{name}: the sandbox ended with {status}")
    values: Values = json.loads(text)
    return values


# -- reporting ----------------------------------------------------------------------------------


def ratios(values: Values) -> list[str]:
    """pyoci's medians in parts of the others'."""
    lines = ["| | pyoci to runc | pyoci to crun |", "|---|---:|---:|"]
    for operation, by in values.items():
        median = {name: statistics.median(samples) for name, samples in by.items()}
        cells = [f"{median['pyoci'] / median[name]:.2f}" if name in median else "-" for name in ("runc", "crun")]
        lines.append(f"| {operation} | {' | '.join(cells)} |")
    return lines


def first_line(program: str) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def report(values: Values, runtimes: list[str], rounds: int, rounds_many: int, load: float) -> str:
    programs = [*runtimes, *(program for program in ("podman", "dockerd") if shutil.which(program))]
    head = f"{bench.where()}; {', '.join(first_line(program) for program in programs)}."
    counts = f"{rounds} rounds ({rounds_many} of those with {MANY} at once), runtimes in turn."
    counts += f" The load average before it was {load:.1f}; all that is measured runs at nice {os.nice(0)}."
    return "\n".join([head, counts, "", *ratios(values), "", *bench.table(values)])


def main() -> int:
    text = "measure podman and docker on pyoci, runc and crun"
    parser = bench.arguments(text, 40, f"{bench.PYOCI},runc,crun")
    parser.add_argument("--rounds-many", type=int, default=10, help=f"rounds of those with {MANY} at once")
    parser.add_argument("--engines", default="podman,docker", help="which engines")
    options = bench.parse(parser)
    runtimes = [os.path.abspath(path) for path in map(shutil.which, options.runtimes.split(",")) if path]
    counts = (options.rounds, options.rounds_many)
    with contextlib.suppress(PermissionError):
        os.nice(NICE)
    began, load = time.monotonic(), os.getloadavg()[0]
    values: Values = {}
    try:
        for name in options.engines.split(","):
            values |= drive(name, runtimes, *counts)
    except bench.Failed as why:
        print(f"bench: {why}", file=sys.stderr)
        return 1
    text = report(values, runtimes, *counts, load)
    print(f"{text}\n({time.monotonic() - began:.0f} s)")
    if options.write:
        bench.write(options.write, text, MARKS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
