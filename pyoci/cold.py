"""Packages from outside the standard library, for the few roads that are allowed to be slow.

The interpreter runs with -I -S: nothing of site-packages is on sys.path, which is safe and
takes half the time.  Who needs jsonschema, pyroute2 or prctl asks here.
"""

from __future__ import annotations

import os
import sys

from pyoci import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def load(name: str) -> Any:
    """Import a module by its dotted name.  Raises errors.SetupError when it is not installed."""
    _extend_path()
    try:
        __import__(name)
    except ImportError as error:
        raise errors.SetupError(
            f"the Python package {name} cannot be imported: {error}",
            hint="install pyoci with pip, which brings the packages it needs, or take them from the distribution",
        ) from None
    return sys.modules[name]


def _extend_path() -> None:
    # Last, so that nothing there can stand before the standard library.
    for directory in site_directories():
        if directory not in sys.path:
            sys.path.append(directory)


def site_directories() -> list[str]:
    """Where packages may be: beside pyoci, in its or its checkout's virtual environment, with the interpreter.

    Only what follows from the interpreter and from pyoci's own file counts: no environment, no
    user directory, no .pth file.
    """
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found = [here]
    for environment in (os.path.dirname(os.path.dirname(sys.executable)), f"{here}/.venv"):
        if os.path.exists(f"{environment}/pyvenv.cfg"):
            found.append(f"{environment}/lib/{version}/site-packages")
    found += [
        f"{sys.prefix}/local/lib/{version}/dist-packages",
        f"{sys.prefix}/lib/python3/dist-packages",
        f"{sys.prefix}/lib/{version}/site-packages",
    ]
    return [directory for directory in found if os.path.isdir(directory)]
