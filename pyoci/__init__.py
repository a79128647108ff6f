"""pyoci: an OCI container runtime, as a library.

    import pyoci

    with pyoci.Container.create("box", bundle="/srv/box") as box:
        box.start()
        status = box.wait()

Everything is loaded when it is first used: this import alone costs nothing.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.cold import site_directories as site_directories
    from pyoci.container import Container as Container
    from pyoci.container import default_root as default_root
    from pyoci.container_list import list as list
    from pyoci.container_plan import default_config as default_config
    from pyoci.container_plan import make_plan as make_plan
    from pyoci.errors import AlreadyExists as AlreadyExists
    from pyoci.errors import Error as Error
    from pyoci.errors import HookError as HookError
    from pyoci.errors import InvalidConfig as InvalidConfig
    from pyoci.errors import NotFound as NotFound
    from pyoci.errors import SetupError as SetupError
    from pyoci.errors import UsageError as UsageError
    from pyoci.errors import WrongState as WrongState
    from pyoci.host.process import Process as Process

# name -> the module it is in
_EXPORTS = {
    "Container": "pyoci.container",
    "Process": "pyoci.host.process",
    "default_root": "pyoci.container",
    "default_config": "pyoci.container_plan",
    "list": "pyoci.container_list",
    "make_plan": "pyoci.container_plan",
    "site_directories": "pyoci.cold",
    "AlreadyExists": "pyoci.errors",
    "Error": "pyoci.errors",
    "HookError": "pyoci.errors",
    "InvalidConfig": "pyoci.errors",
    "NotFound": "pyoci.errors",
    "SetupError": "pyoci.errors",
    "UsageError": "pyoci.errors",
    "WrongState": "pyoci.errors",
}
__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module 'pyoci' has no attribute {name!r}")
    value = getattr(__import__(module, fromlist=[name]), name)
    globals()[name] = value
    return value


def __dir__() -> Any:
    return sorted({*globals(), *_EXPORTS})
