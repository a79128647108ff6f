"""pyoci info: what pyoci finds on this machine, for bug reports."""

from __future__ import annotations

import os
import shutil
import sys

import pyoci
from pyoci import cli, container, container_list, json, spec
from pyoci.cli import common, options, version
from pyoci.cli.options import Option
from pyoci.host import facts, nsexec, probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ARGS = ()
OPTIONS = (Option("format", "text (default) or json", "FORMAT", short="f", choices=("text", "json")),)
HELP = """\
Nothing is made or changed.
"""
CRIU_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Print it."""
    found = gather(given)
    if opts.text("format") == "json":
        cli.write(json.dumps(found, indent=2) + "\n")
    else:
        cli.write("".join([f"{name + ':':24}{shown(value)}\n" for name, value in found.items()]))
    return 0


def shown(value: Any) -> str:
    """For reading."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = " ".join(value) if isinstance(value, list) else str(value)
    return text or "none"


def gather(given: options.Parsed) -> dict[str, Any]:
    """What there is to tell."""
    machine = facts.read()
    root = given.text("root") or container.default_root()
    return {
        "version": pyoci.__version__,
        "commit": version.commit(),
        "spec": spec.VERSION,
        "package": os.path.dirname(pyoci.__file__),
        "nsexec": nsexec.nsexec_path(),
        "python": f"{sys.executable} {sys.version.split()[0]}",
        "kernel": f"{os.uname().release} {machine.arch}",
        "root": root,
        "containers": len(container_list.ids(root)),
        "user": machine.euid,
        "user namespace": machine.userns,
        "cgroup mode": machine.cgroup_mode,
        "cgroup manager": common.manager(given),
        "cgroup controllers": sorted({*machine.cgroup_controllers, *machine.cgroup_mounts} - {""}),
        "namespaces": probe.namespaces(),
        "seccomp actions": probe.seccomp_actions(),
        "security modules": probe.security_modules(),
        "criu": shutil.which(given.text("criu") or "criu", path=CRIU_PATH) or "",
    }
