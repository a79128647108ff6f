"""Drive the engines against one or more OCI runtimes: python -m tests.engines.matrix [RUNTIME...]

Each engine gets a sandbox (sandbox.py) of its own; nothing of the machine is changed.  The results are kept in
build/engines/, and --write makes the tables of docs/ENGINES.md from all that are there.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

PROJECT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(PROJECT))

from tests.engines import lab, report, sandbox  # noqa: E402

if TYPE_CHECKING:
    from tests.engines.lab import Check, Engine

RESULTS = PROJECT / "build" / "engines"
LIMIT = 240  # seconds one check may take

# name -> module and class
ENGINES = {
    "podman": ("tests.engines.podman", "Podman"),
    "rootless": ("tests.engines.rootless", "Rootless"),
    "ctr": ("tests.engines.ctr", "Ctr"),
    "docker": ("tests.engines.docker", "Docker"),
    "buildah": ("tests.engines.buildah", "Buildah"),
    "swarm": ("tests.engines.swarm", "Swarm"),
}


def engine_class(name: str) -> type[Engine]:
    module, attribute = ENGINES[name]
    return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]


def checks_of(engine: str, only: list[str], quick: bool) -> list[Check]:
    """The checks of an engine, in the order of the modules; all modules must be imported."""
    for name in ENGINES:
        engine_class(name)
    chosen = [check for check in lab.CHECKS if engine in check.engines and (check.quick or not quick)]
    return [check for check in chosen if not only or any(word in check.id for word in only)]


def one(engine: Engine, check: Check) -> tuple[str, str]:
    """Run a check: pass, fail or skip, and why."""

    def late(*_: object) -> None:
        raise TimeoutError(f"more than {LIMIT} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    try:
        check.function(engine)
    except lab.Skip as reason:
        return "skip", str(reason)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return "fail", f"{type(error).__name__}: {error or place.line} ({Path(place.filename).name}:{place.lineno})"
    finally:
        signal.alarm(60)
        engine.after_check()
        signal.alarm(0)
    return "pass", ""


def run_engine(name: str, runtime: str, work: Path, checks: list[Check]) -> int:
    """In the sandbox: start the engine, run its checks, write the results."""
    lab.make_image(work)
    results: dict[str, Any] = {}
    engine = engine_class(name)(work, runtime)
    try:
        engine.begin()
        for check in checks:
            started = time.monotonic()
            verdict, why = one(engine, check)
            seconds = time.monotonic() - started
            results[check.id] = {"verdict": verdict, "why": why, "seconds": round(seconds, 2)}
            print(f"{name:9}{engine.flavour:7}{verdict:5}{seconds:6.1f} s  {check.id}", why[:1200], flush=True)
    finally:
        engine.finish()
    save(name, engine.flavour, results)
    return 0


def save(engine: str, flavour: str, results: dict[str, Any]) -> None:
    """Add results to what is known of an engine with a runtime."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{engine}.{flavour}.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | results, indent=1))


def load(engine: str, flavour: str) -> dict[str, Any]:
    path = RESULTS / f"{engine}.{flavour}.json"
    return json.loads(path.read_text()) if path.exists() else {}  # type: ignore[no-any-return]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="matrix", description=__doc__)
    parser.add_argument(
        "runtimes", nargs="*", default=[str(PROJECT / "build/pyoci")], help="paths or names of runtimes"
    )
    parser.add_argument("--engine", default=",".join(ENGINES), help="engines, separated by commas")
    parser.add_argument("--only", default="", help="parts of check ids, separated by commas")
    parser.add_argument("--quick", action="store_true", help="a short selection")
    parser.add_argument("--failed", action="store_true", help="only what failed or did not run the last time")
    parser.add_argument("--list", action="store_true", help="print the checks and do nothing")
    parser.add_argument("--write", metavar="FILE", help="make the tables of FILE from the results in build/engines/")
    return parser.parse_args()


def drive(name: str, runtime: str, checks: list[Check]) -> str:
    """One engine with one runtime, in a sandbox; "" or why it did not run to its end."""
    missing = [program for program in engine_class(name).needs if not shutil.which(program)]
    if missing:
        return f"{name}: not installed: {' '.join(missing)}"
    work = Path(f"/tmp/pyoci-engines-{os.getpid()}-{name}")
    work.mkdir()
    status = sandbox.run(work, lambda: run_engine(name, runtime, work, checks))
    return f"{name}: the sandbox ended with {status}" if status else ""


def main() -> int:
    options = arguments()
    only = [word for word in options.only.split(",") if word]
    bad = 0
    for runtime in options.runtimes:
        path = shutil.which(runtime)
        if not path:
            sys.exit(f"matrix: {runtime}: no such runtime")
        for name in filter(None, options.engine.split(",")):
            checks = checks_of(name, only, options.quick)
            if options.failed:
                known = load(name, Path(path).name)
                checks = [check for check in checks if known.get(check.id, {}).get("verdict", "fail") == "fail"]
                if not checks:
                    continue
            if options.list:
                print(f"{name}: {len(checks)}", *(check.id for check in checks))
                continue
            started = time.monotonic()
            wrong = drive(name, os.path.abspath(path), checks)
            results = load(name, Path(path).name)
            verdicts = [results.get(check.id, {}).get("verdict", "fail") for check in checks]
            counts = ", ".join(f"{verdicts.count(word)} {word}" for word in ("pass", "fail", "skip"))
            print(f"== {name} with {Path(path).name}: {counts}, {time.monotonic() - started:.0f} s {wrong}", flush=True)
            bad += bool(wrong) or "fail" in verdicts
    if options.write:
        report.write(Path(options.write), {name: checks_of(name, [], False) for name in ENGINES}, load)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
