"""The command: `python3 -I -S -X utf8 .../pyoci/__main__.py ARGS...`, which is what the launcher executes.

It executes __pycache__/main.pyc, which pyoci/image_make.py makes of this, as long as that is up to date.
"""

import fcntl
import gc
import marshal
import posix
import sys

gc.disable()  # the process lives for milliseconds, and what an import makes is no garbage

kept = posix.environ.pop(b"PYOCI_LC_ALL", None)  # see plain_locale() in libexec/launch.c
if kept is not None:
    posix.unsetenv("PYOCI_LC_ALL")
    del posix.environ[b"LC_ALL"]
    posix.unsetenv("LC_ALL")
    if kept:
        posix.environ[b"LC_ALL"] = kept
        posix.putenv("LC_ALL", kept)

home = __file__.rpartition("/")[0].removesuffix("/__pycache__")  # absolute, since Python 3.9
# -I puts neither this directory nor the working directory on the path.  Last, not first: nothing
# that lies beside the package may stand before the standard library.
sys.path.append(home.rpartition("/")[0])

importer = None
debugging = "--debug" in sys.argv  # from the sources: tracebacks with line numbers
try:
    low = posix.open(f"{home}/__pycache__/image.{sys.implementation.cache_tag}", posix.O_RDONLY | posix.O_CLOEXEC)
    image = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 200)  # out of the way of --preserve-fds
    posix.close(low)
    sizes = posix.read(image, 8)
    if int.from_bytes(sizes[:4], "little") == posix.fstat(image).st_size and not debugging:
        index, loader = marshal.loads(posix.read(image, int.from_bytes(sizes[4:], "little")))
        names = {"__name__": "pyoci.image"}
        exec(loader, names)
        importer = names["Importer"](home, image, posix.lseek(image, 0, 1), index)  # type: ignore[operator]
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
