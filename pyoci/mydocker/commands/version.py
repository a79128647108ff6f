"""mydocker version."""

from __future__ import annotations

import os
import platform

import pyoci
from pyoci.mydocker import options, show


@options.command("version")
@options.option("-f", "--format", "template", default="", help="json, or text with {{.Version}} and so on")
def command(template: str) -> None:
    """Show the versions."""
    found = {
        "Version": pyoci.__version__,
        "Python": platform.python_version(),
        "Kernel": os.uname().release,
        "OsArch": f"linux/{os.uname().machine}",
    }
    if template:
        show.rows([{**found, "Client": found, "Server": found}], {}, template)  # there is no server: it is all one
        return
    for key, value in found.items():
        print(f"{key}: {value}")
