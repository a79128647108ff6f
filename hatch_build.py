"""Compile libexec/*.c into the one static binary, and put it where a wheel wants it.

It goes in twice: as the command `pyoci` (the launcher, which finds the package beside itself)
and as pyoci/libexec/nsexec inside the package, which is what the runtime seals and runs.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CFLAGS = "-std=gnu11 -O2 -Wall -Wextra -Werror"


class StaticBinaryHook(BuildHookInterface[Any]):
    """Adds the compiled binary to a wheel, regular or editable."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """version: "standard" or "editable"; raises CalledProcessError when cc fails."""
        root = Path(self.root)
        binary = root / "build" / "wheel" / "pyoci"
        binary.parent.mkdir(parents=True, exist_ok=True)
        defines: list[str] = []
        if version == "editable":  # the package stays in the checkout, where the launcher would not look
            defines.append(f'-DPYOCI_HOME="{root / "pyoci"}"')
        else:
            build_data["force_include"][str(binary)] = "pyoci/libexec/nsexec"
            commit = binary.with_name("_commit.py")
            commit.write_text(f"COMMIT = {commit_of(root)!r}\n")
            build_data["force_include"][str(commit)] = "pyoci/_commit.py"
        compile_static(sorted(root.glob("libexec/*.c")), binary, defines)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        build_data["shared_scripts"][str(binary)] = "pyoci"
        mydocker = binary.with_name("mydocker")
        shutil.copy(binary, mydocker)  # a wheel has no links; the name decides which script is run
        build_data["shared_scripts"][str(mydocker)] = "mydocker"


def commit_of(root: Path) -> str:
    """What `pyoci --version` gives as the commit; "unknown" outside a git checkout."""
    if not (root / ".git").exists():  # a copy inside another project's checkout is not that project
        return "unknown"
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def compile_static(sources: list[Path], binary: Path, defines: list[str]) -> None:
    """One call of $CC (cc) with $CFLAGS; warnings are errors."""
    if not sys.platform.startswith("linux"):
        raise RuntimeError("pyoci runs on Linux only")
    command = [
        *shlex.split(os.environ.get("CC", "cc")),
        *shlex.split(os.environ.get("CFLAGS", CFLAGS)),
        *defines,
        "-static",
        "-o",
        str(binary),
        *map(str, sources),
    ]
    subprocess.run(command, check=True)
