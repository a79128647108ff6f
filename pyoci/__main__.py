"""The command: `python3 -I -S .../pyoci/__main__.py ARGS...`, which is what the launcher executes.

It is compiled at every call, so it is short.
"""

import gc
import marshal
import posix
import sys

gc.disable()  # the process lives for milliseconds, and what an import makes is no garbage

home = __file__.rpartition("/")[0]  # absolute, since Python 3.9
# -I puts neither this directory nor the working directory on the path.  Last, not first: nothing
# that lies beside the package may stand before the standard library.
sys.path.append(home.rpartition("/")[0])

importer = None
debugging = "--debug" in sys.argv  # from the sources: tracebacks with line numbers
try:
    fd = posix.open(f"{home}/__pycache__/image.{sys.implementation.cache_tag}", posix.O_RDONLY | posix.O_CLOEXEC)
    image = posix.read(fd, 1 << 24)
    posix.close(fd)
    if image.endswith(b"end of pyoci image") and not debugging:
        index, loader = marshal.loads(image)
        names = {"__name__": "pyoci.image"}
        exec(loader, names)
        importer = names["Importer"](home, image, index)  # type: ignore[operator]
        sys.meta_path.insert(0, importer)
except (OSError, ValueError, EOFError, TypeError):
    pass  # missing or damaged: slower, and made anew below

from pyoci import cli  # noqa: E402

status = cli.main(sys.argv[1:])
if not debugging and (importer is None or importer.stale):
    from pyoci import image_make

    image_make.refresh(home)
# _exit: taking the interpreter apart costs a millisecond, and all output has been written.
posix._exit(status)
