"""pyoci against runc and crun on the same bundle, in one run; see README.md beside this file.

Every operation is measured in rounds that take the runtimes in turn (A B C A B C ...), so that a
slow minute of the machine is shared by all, and is reported as a ratio of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import tomllib
from functools import partial as bind
from pathlib import Path
from typing import TYPE_CHECKING

import isolate

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
PYOCI = HERE.parent / "build" / "pyoci"
PYTHON = "/usr/bin/python3"  # the one the launcher starts
BARE = [PYTHON, "-I", "-S", "-c", "pass"]
MARKS = ("<!-- bench: written by `make bench` -->", "<!-- bench: end -->")
WARM_UP = 3  # rounds that are not counted
PEAK_ROUNDS = 5
TARGETS = {  # operation -> (compared with, at most), from the project's goals
    "run": ("runc", 1.0),
    "exec": ("runc", 1.0),
    "state": ("python3 -I -S -c pass", 1.4),
    "kill": ("python3 -I -S -c pass", 1.4),
    "library loop": ("crun run", 1.0),
    "peak memory": ("runc", 1.0),
}


class Failed(Exception):
    """A measured command did not do what it should; there is no number then."""


class Runtime:
    """One command under test with a state root of its own."""

    def __init__(self, name: str, path: str, bench: Path) -> None:
        self.name = name
        self.path = path
        self.root = bench / f"root-{name}"
        self.errors = bench / f"errors-{name}"

    def argv(self, *args: str) -> list[str]:
        return [self.path, "--root", str(self.root), *args]

    def call(self, *args: str) -> None:
        """Run a verb to its end; raises Failed."""
        call(self.argv(*args), self.errors)

    def version(self) -> str:
        text = subprocess.run([self.path, "--version"], capture_output=True, text=True, check=True).stdout
        return text.splitlines()[0]


def call(argv: list[str], errors: Path) -> None:
    """posix_spawn and wait: what is between is the command's own time."""
    silence = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, str(errors), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
    ]
    pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=silence)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise Failed(f"{' '.join(argv)}: exit status {status}: {errors.read_text().strip()}")


class Bundle:
    """runc's default config with our static program, one bundle for a no-op and one that stays."""

    def __init__(self, bench: Path) -> None:
        self.noop = bench / "noop"
        self.stay = bench / "stay"
        for bundle, args in ((self.noop, ["/init"]), (self.stay, ["/init", "stay"])):
            (bundle / "rootfs").mkdir(parents=True)
            shutil.copy(bench / "container", bundle / "rootfs" / "init")
            write_config(bundle, args)


def write_config(bundle: Path, args: list[str]) -> None:
    subprocess.run(["runc", "spec", "--bundle", str(bundle)], check=True)
    path = bundle / "config.json"
    config = json.loads(path.read_text())
    config["process"].update(terminal=False, args=args)
    config["process"]["rlimits"] = []  # raising a hard limit takes rights a sandbox may lack
    path.write_text(json.dumps(config))


def reap(pid: int) -> None:
    """Wait for a container's init: we are its subreaper."""
    os.waitpid(pid, 0)


class Standing:
    """A running container, for exec, state and kill."""

    def __init__(self, runtime: Runtime, bundle: Bundle) -> None:
        self.runtime = runtime
        self.id = f"bench-stay-{runtime.name}"
        pid_file = runtime.root.with_suffix(".pid")
        runtime.call("create", "--bundle", str(bundle.stay), "--pid-file", str(pid_file), self.id)
        self.pid = int(pid_file.read_text())
        runtime.call("start", self.id)

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        reap(self.pid)
        self.runtime.call("delete", self.id)


# -- the operations: each does the thing once ---------------------------------------------------


def do_run(runtime: Runtime, bundle: Bundle) -> None:
    runtime.call("run", "--bundle", str(bundle.noop), f"bench-run-{runtime.name}")


def do_cycle(runtime: Runtime, bundle: Bundle) -> None:
    name = f"bench-cycle-{runtime.name}"
    pid_file = runtime.root.with_suffix(".pid")
    runtime.call("create", "--bundle", str(bundle.noop), "--pid-file", str(pid_file), name)
    runtime.call("start", name)
    reap(int(pid_file.read_text()))
    runtime.call("delete", name)


class Library:
    """The loop in one Python process that has pyoci imported: one answer a round, kept in phases."""

    ANSWER = struct.Struct("<4I")
    PHASES = ("create", "start", "wait", "delete")

    def __init__(self, bundle: Bundle, root: Path) -> None:
        argv = [PYTHON, "-I", "-S", str(HERE / "library.py"), str(bundle.noop), str(root)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.phases: dict[str, list[float]] = {phase: [] for phase in self.PHASES}

    def round(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(b".")
        self.process.stdin.flush()
        answer = self.process.stdout.read(self.ANSWER.size)
        if len(answer) != self.ANSWER.size:
            raise Failed("the library loop ended early")
        for phase, microseconds in zip(self.PHASES, self.ANSWER.unpack(answer), strict=True):
            self.phases[phase].append(microseconds / 1000)

    def end(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


# -- measuring ----------------------------------------------------------------------------------


def interleave(actions: dict[str, Callable[[], None]], rounds: int, warm_up: int = WARM_UP) -> dict[str, list[float]]:
    """Milliseconds of every counted round of every action."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(warm_up + rounds):
        for name, action in actions.items():
            began = time.perf_counter()
            action()
            if number >= warm_up:
                times[name].append((time.perf_counter() - began) * 1000)
    return times


class Bench:
    """All measurements of one run: operation -> who -> values."""

    def __init__(self, directory: Path, runtimes: list[Runtime], rounds: int) -> None:
        self.directory = directory
        self.runtimes = runtimes
        self.rounds = rounds
        self.bundle = Bundle(directory)
        self.values: dict[str, dict[str, list[float]]] = {}
        self.phases: dict[str, list[float]] = {}

    def bare(self) -> None:
        call(BARE, self.directory / "errors-bare")

    def measure(self, operation: str, actions: dict[str, Callable[[], None]]) -> None:
        print(f"{operation}...", file=sys.stderr)
        self.values[operation] = interleave(actions, self.rounds)

    def each(self, action: Callable[[Runtime, Bundle], None]) -> dict[str, Callable[[], None]]:
        return {runtime.name: bind(action, runtime, self.bundle) for runtime in self.runtimes}

    def all(self) -> None:
        self.measure("run", {"python3 -I -S -c pass": self.bare, **self.each(do_run)})
        self.measure("create+start+delete", self.each(do_cycle))
        self.standing_containers()
        if any(runtime.name == "pyoci" for runtime in self.runtimes):
            self.library_loop()
            self.imports()
        self.peak_memory()

    def standing_containers(self) -> None:
        standing: list[Standing] = []
        try:
            for runtime in self.runtimes:
                standing.append(Standing(runtime, self.bundle))
            for operation, args in (("exec", ["/init"]), ("state", []), ("kill", ["USR1"])):
                # pid 1 has no handler for USR1, so the kernel drops it: kill can be repeated
                actions = {s.runtime.name: bind(s.runtime.call, operation, s.id, *args) for s in standing}
                self.measure(operation, {"python3 -I -S -c pass": self.bare, **actions})
        finally:
            for s in standing:
                s.end()

    def library_loop(self) -> None:
        library = Library(self.bundle, self.directory / "root-library")
        runs = {f"{name} run": action for name, action in self.each(do_run).items() if name != "pyoci"}
        try:
            self.measure("library loop", {"pyoci": library.round, **runs})
        finally:
            library.end()
        self.phases = {phase: samples[WARM_UP:] for phase, samples in library.phases.items()}

    def imports(self) -> None:
        """What loading the modules of `run` costs.  Both end by _exit, as the command does."""
        load = f"sys.path.append({str(HERE.parent)!r}); import " + ", ".join(modules_of_run())
        scripts = {"bare": "import os; os._exit(0)", "loaded": f"import os, sys; {load}; os._exit(0)"}
        errors = self.directory / "errors-imports"
        values = interleave(
            {name: bind(call, [*BARE[:-1], code], errors) for name, code in scripts.items()}, self.rounds
        )
        self.phases["interpreter"] = values["bare"]
        self.phases["imports"] = [value - statistics.median(values["bare"]) for value in values["loaded"]]

    def peak_memory(self) -> None:
        """KiB; `run` has the runtime, its helpers and the container's first process in one tree."""
        print("peak memory...", file=sys.stderr)
        peaks: dict[str, list[float]] = {"python3 -I -S -c pass": [], **{r.name: [] for r in self.runtimes}}
        for _ in range(PEAK_ROUNDS):
            peaks["python3 -I -S -c pass"].append(self.peak(BARE))
            for r in self.runtimes:
                argv = r.argv("run", "--bundle", str(self.bundle.noop), f"bench-peak-{r.name}")
                peaks[r.name].append(self.peak(argv))
        self.values["peak memory"] = peaks

    def peak(self, argv: list[str]) -> int:
        argv = [str(self.directory / "peak"), shutil.which(argv[0]) or argv[0], *argv[1:]]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"{' '.join(argv)}: {done.stderr.strip()}")
        return int(done.stdout)


def modules_of_run() -> list[str]:
    """As the tests assert them (tests/unit/imports.toml)."""
    table = tomllib.loads((HERE.parent / "tests" / "unit" / "imports.toml").read_text())
    return [name for name in table["common"] + table["run"] if name != "__future__"]


# -- reporting ----------------------------------------------------------------------------------


def table(values: dict[str, dict[str, list[float]]]) -> list[str]:
    """One row for each operation and who did it: median, quartiles, ratio to runc."""
    lines = ["| operation | by | median | quartiles | to runc |", "|---|---|---:|---:|---:|"]
    for operation, by in values.items():
        unit, scale = ("MiB", 1024.0) if operation == "peak memory" else ("ms", 1.0)
        base = statistics.median(by.get("runc") or by["runc run"])
        for who, samples in by.items():
            low, median, high = (value / scale for value in statistics.quantiles(samples, n=4))
            ratio = median * scale / base
            lines.append(f"| {operation} | {who} | {median:.2f} {unit} | {low:.2f} to {high:.2f} | {ratio:.2f} |")
    return lines


def goals(values: dict[str, dict[str, list[float]]]) -> list[str]:
    """The project's goals, as ratios of medians, reached or not."""
    lines = ["| goal | measured | at most | |", "|---|---:|---:|---|"]
    for operation, (other, limit) in TARGETS.items():
        by = values.get(operation, {})
        if "pyoci" not in by or other not in by:
            lines.append(f"| {operation}, pyoci to {other} | not measured | {limit:.2f} | |")
            continue
        ratio = statistics.median(by["pyoci"]) / statistics.median(by[other])
        verdict = "reached" if ratio <= limit else "**missed**"
        lines.append(f"| {operation}, pyoci to {other} | {ratio:.2f} | {limit:.2f} | {verdict} |")
    return lines


def breakdown(phases: dict[str, list[float]]) -> list[str]:
    """Where the milliseconds of a foreground `run` go."""
    if not phases:
        return []
    names = {
        "interpreter": "`python3 -I -S`, before our first line",
        "imports": "loading the modules of `run`",
        "create": "create: plan, cgroups, namespaces, mounts, up to the exec fifo",
        "start": "start: until the program runs",
        "wait": "wait: the program's own end",
        "delete": "delete: cgroups and state",
    }
    lines = ["| part of a `run` | median |", "|---|---:|"]
    lines += [f"| {text} | {statistics.median(phases[name]):.2f} ms |" for name, text in names.items()]
    return [*lines, ""]


def where() -> str:
    """When and on what machine this was measured."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"Measured {time.strftime('%Y-%m-%d', time.gmtime())} on {os.cpu_count()} x {cpu}, {memory:.0f} GiB,"
        f" Linux {platform.release()}, {platform.freedesktop_os_release()['PRETTY_NAME']};"
        f" Python {platform.python_version()}"
    )


def report(bench: Bench, skipped: list[str]) -> str:
    names = [f"{runtime.version()} ({runtime.name})" for runtime in bench.runtimes]
    parts = [f"{where()}; {', '.join(names)}.", f"{bench.rounds} rounds, runtimes in turn.", *skipped]
    return "\n".join([*parts, "", *goals(bench.values), "", *breakdown(bench.phases), *table(bench.values)])


def write(path: Path, text: str, marks: tuple[str, str] = MARKS) -> None:
    """Replace what is between the marks and leave the prose around it alone."""
    old = path.read_text() if path.exists() else f"# Performance\n\n{marks[0]}\n{marks[1]}\n"
    before, _, rest = old.partition(marks[0])
    _, _, after = rest.partition(marks[1])
    path.write_text(f"{before}{marks[0]}\n{text}\n{marks[1]}{after}")


# -- setting up ---------------------------------------------------------------------------------


def find_runtimes(directory: Path, wanted: list[str]) -> tuple[list[Runtime], list[str]]:
    """The runtimes that can run here, and a sentence for each that cannot."""
    runtimes, skipped = [], []
    for name in wanted:
        path = str(PYOCI) if name == "pyoci" else shutil.which(name)
        why = "" if path and os.access(path, os.X_OK) else "it is not installed"
        if name == "crun" and not why:
            why = isolate.add_hugetlb(directory / "cgroup")
        if why or not path:
            skipped.append(f"{name} was left out: {why}.")
        else:
            runtimes.append(Runtime(name, path, directory))
    return runtimes, skipped


def compile_helpers(directory: Path) -> None:
    for name in ("container", "peak"):
        command = ["cc", "-O2", "-static", "-o", str(directory / name), str(HERE / f"{name}.c")]
        subprocess.run(command, check=True)


def clean(directory: Path) -> None:
    """Remove the working directory, unless something is still mounted below it."""
    mounts = Path("/proc/self/mountinfo").read_text()
    if f" {directory}/" in mounts:
        print(f"{directory} is left: something is mounted in it", file=sys.stderr)
    else:
        shutil.rmtree(directory)


def arguments(description: str, rounds: int, runtimes: str) -> argparse.ArgumentParser:
    """What the benches are told alike.  rounds, runtimes: the defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help="counted rounds of each operation")
    parser.add_argument("--runtimes", default=runtimes, help="which (names or paths), runc always among them")
    parser.add_argument("--write", type=Path, help="a Markdown file whose marked part gets the tables")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What was told.  Ends the program for all but root, who may ask for --help like everybody."""
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: measuring containers of root takes root")
    return options


def main() -> int:
    options = parse(arguments("measure pyoci against runc and crun", 100, "pyoci,runc,crun"))
    isolate.enter()
    place = Path(tempfile.mkdtemp(prefix="pyoci-bench-"))
    isolate.mount("bench", place, "tmpfs", data="mode=711")  # as /run, where states are, is on most machines
    directory = place / "work"
    directory.mkdir(mode=0o711)
    try:
        compile_helpers(directory)
        runtimes, skipped = find_runtimes(directory, options.runtimes.split(","))
        bench = Bench(directory, runtimes, options.rounds)
        bench.all()
        text = report(bench, skipped)
    except Failed as why:
        print(f"bench: {why}", file=sys.stderr)
        return 1
    finally:
        clean(directory)
        isolate.umount(place)
        place.rmdir()
    print(text)
    if options.write:
        write(options.write, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
