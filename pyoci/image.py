"""The modules of the hot path in one file: what a .pyc is for one module, for the package.

The usual importer asks the file system ten times per module, and a verb has fifty; annotations, docstrings
and assertions are a third of what it then reads.  So the image holds the modules without those, and one
index.  It lies in __pycache__ and is trusted as a .pyc is: a module is taken from it only as long as its
source has the size and the time that the image was made from; else it is imported as usual, and the image
is made anew when the command is done.  `make build` and `make install` make it; where it is missing the
first command of a user with the right to write does (pyoci/image_make.py).

    image   u32 size of all, u32 length of the head; the head: marshal of (index, code of this module); then the
            marshalled code of each module
    index   text, a line for each module: " NAME FILE MTIME SIZE OFFSET LENGTH", the numbers in hex, the time in ns,
            offsets from the first module's code.  (A dict of tuples would take 50 KiB of every process, and the
            first decimal number 128: see pyoci.json.integer.)
"""

from __future__ import annotations

import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

_Spec: Any = type(sys.__spec__)  # importlib.machinery.ModuleSpec, without importing importlib


class Importer:
    """Finder and loader in one, for sys.meta_path.

    home:  str, the directory of the package
    stale: bool, a module was asked for that the image does not have as it is now
    """

    def __init__(self, home: str, fd: int, start: int, index: str) -> None:
        """fd: the image, open for good; start: where the first module's code begins in it."""
        self.home = home
        self.stale = False
        self._fd = fd
        self._start = start
        self._index = index

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> Any:
        """The importer protocol: None leaves the module to the next finder."""
        if not name.startswith("pyoci"):
            return None
        entry = self._entry(name)
        if not entry:
            return None
        file = f"{self.home}/{entry[1]}"
        if not _unchanged(file, int(entry[2], 16), int(entry[3], 16)):
            self.stale = True
            return None
        package = file.endswith("/__init__.py")
        spec = _Spec(name, self, is_package=package)
        if package:
            spec.submodule_search_locations = [file.rpartition("/")[0]]
        return spec

    def create_module(self, _spec: object) -> None:
        """The importer protocol: an ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """The importer protocol: the module waits until something of it is used."""
        module.__class__ = Waiting

    def load(self, module: ModuleType) -> None:
        """Run the code of a module that waited."""
        module.__class__ = type(sys)
        _, file, _, _, offset, length = self._entry(module.__name__)
        module.__file__ = f"{self.home}/{file}"
        exec(marshal.loads(posix.pread(self._fd, int(length, 16), self._start + int(offset, 16))), module.__dict__)

    def has(self, name: str) -> bool:
        """Whether there is such a module."""
        return f" {name} " in self._index

    def _entry(self, name: str) -> list[str]:
        """The line of a module, in words; [] where there is none."""
        start = self._index.find(f" {name} ")
        return self._index[start : self._index.index("\n", start)].split() if start >= 0 else []


class Waiting(type(sys)):  # type: ignore[misc]  # types.ModuleType, without importing types
    """A module whose code has not run yet.  Half of what `run` imports is for hooks, terminals, id maps and
    errors; a container without them does not pay for them."""

    def __getattr__(self, name: str) -> Any:
        importer: Importer = self.__spec__.loader
        # `from package import module` asks the package for the name first: that is no use of the package
        if importer.has(f"{self.__name__}.{name}"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        importer.load(self)
        return getattr(self, name)


def _unchanged(file: str, mtime: int, size: int) -> bool:
    try:
        found = posix.stat(file)
    except OSError:
        return False
    return found.st_mtime_ns == mtime and found.st_size == size
