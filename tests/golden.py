"""Golden plans: what pyoci does with each of the bundles in bundles/, on paper.

    python3 -m tests.golden            says which differ
    python3 -m tests.golden --update   rewrites bundles/NAME/plan.txt and plan.json; the diff is the review

A bundle with a process.json has plan-exec.txt and plan-exec.json besides: that process by `exec`.
The machine they are for is a fixed one, with cgroup v2, so that they are the same everywhere.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pyoci import json, linux, plan, spec
from pyoci.plan import text
from pyoci.plan.facts import Facts
from pyoci.plan.options import Options, Target

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
BUNDLE = "/bundle"
CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")


def facts(**changes: Any) -> Facts:
    """The machine of the golden plans: x86-64, root, cgroup v2."""
    values: dict[str, Any] = {
        "cgroup_mode": "unified",
        "cgroup_unified": "/sys/fs/cgroup",
        "cgroup_roots": {"": "/"},
        "cgroup_own": {"": "/user.slice"},
        "cgroup_controllers": CONTROLLERS,
    }
    return Facts(**(values | changes))


def options(name: str = "container", **changes: Any) -> Options:
    """The command line of the golden plans: none, and id = the bundle's name."""
    state = {"ociVersion": "1.3.0", "id": name, "bundle": BUNDLE, "annotations": {}}
    return Options(name, BUNDLE, **({"state": state, "directory": f"/run/pyoci/{name}"} | changes))


def config_of(path: Path) -> dict[str, Any]:
    """A config.json, checked, with its paths absolute as bundle.load makes them."""
    config: dict[str, Any] = json.loads(path.read_bytes(), path.name)
    spec.validate(config)
    config["root"]["path"] = absolute(config["root"]["path"])
    for mount in config.get("mounts", ()):
        if plan.mounts.is_bind(mount):
            mount["source"] = absolute(mount["source"])
    return config


def absolute(path: str) -> str:
    return path if path.startswith("/") else f"{BUNDLE}/{path}"


def target_of(config: dict[str, Any]) -> Target:
    """The running container that `exec` enters: it has all the namespaces its config names."""
    kinds = plan.namespaces.table(config)
    cgroup = {"version": 2, "dirs": {"": "/sys/fs/cgroup/init"}, "keep": [], "mount": "/sys/fs/cgroup"}
    return Target(1000, {kind: f"/proc/1000/ns/{linux.NAMESPACE_FILES[kind]}" for kind in kinds}, cgroup)


def forms(made: plan.Plan) -> tuple[str, str]:
    """The plan as the two golden texts.  A seccomp program is its length: nobody reviews its bytes."""
    value = text.as_dict(made)
    for item in value["ops"]:
        if "program" in item:
            item["program"] = f"{len(item['program']) // 16} instructions"
    return text.render(made), json.dumps(value, 2) + "\n"


def plans(bundle: Path) -> dict[str, str]:
    """File name -> content, of everything golden in one bundle."""
    config = config_of(bundle / "config.json")
    result = {}
    result["plan.txt"], result["plan.json"] = forms(plan.make(config, facts(), options(bundle.name)))
    process_json = bundle / "process.json"
    if process_json.exists():
        process = json.loads(process_json.read_bytes(), process_json.name)
        made = plan.make_exec(process, config, target_of(config), facts(), options(bundle.name))
        result["plan-exec.txt"], result["plan-exec.json"] = forms(made)
    return result


def bundles() -> list[Path]:
    return sorted(path.parent for path in BUNDLES.glob("*/config.json"))


def main(argv: list[str]) -> int:
    """Compare, or with --update write.  Returns 1 when something differs."""
    update = "--update" in argv
    different = 0
    for bundle in bundles():
        for name, content in plans(bundle).items():
            path = bundle / name
            if path.exists() and path.read_text() == content:
                continue
            different += 1
            print(f"{'wrote' if update else 'differs:'} {path.relative_to(BUNDLES.parent)}")
            if update:
                path.write_text(content)
    return 1 if different and not update else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
