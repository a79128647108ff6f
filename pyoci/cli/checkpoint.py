"""pyoci checkpoint: a container as files, by the criu program."""

from __future__ import annotations

import os

from pyoci.cli import common, options
from pyoci.cli.options import Option
from pyoci.plan import criu, criu_rpc

ARGS = ("CONTAINER-ID",)
# what restore has too
SHARED = (
    Option("image-path", "directory of the checkpoint (default: checkpoint)", "DIR"),
    Option("work-path", "directory for criu's log (default: that of the checkpoint)", "DIR"),
    Option("tcp-established", "allow open TCP connections"),
    Option("tcp-skip-in-flight", "leave out TCP connections that are being opened"),
    Option("ext-unix-sk", "allow unix sockets that are connected to the outside"),
    Option("shell-job", "allow shell jobs"),
    Option("file-locks", "allow file locks"),
    Option("link-remap", "allow files that were removed while they were open"),
    Option("lazy-pages", "memory is read when it is used, by userfaultfd"),
    Option("auto-dedup", "drop memory pages from earlier checkpoints that are in this one"),
    Option(
        "manage-cgroups-mode", "soft (default), full, strict or ignore", "MODE", choices=tuple(criu_rpc.CGROUP_MODES)
    ),
    Option("empty-ns", "come back with an empty namespace of this type: network", "TYPE", many=True),
)
OPTIONS = (
    *SHARED,
    Option("parent-path", "earlier pre-dump, relative to the checkpoint's directory", "DIR"),
    Option("leave-running", "let the container run on"),
    Option("status-fd", "descriptor that criu writes a NUL to when it is ready for lazy pages", "N"),
    Option("page-server", "send the memory there", "ADDRESS:PORT"),
    Option("pre-dump", "write its memory only, and let it run on"),
)
HELP = """\
The container is written down by the criu program (see --criu), so that `pyoci restore` can let it go on;
then it is gone, unless it is to run on.  criu's own settings come from the file in the annotation
org.criu.config, else from /etc/criu/pyoci.conf or /etc/criu/runc.conf.
"""


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Write the checkpoint."""
    container = common.find(given, opts.args[0])
    container.checkpoint(wanted(opts), criu=given.text("criu"), pre_dump=opts.flag("pre-dump"))
    common.report(container)
    return 0


def wanted(opts: options.Parsed) -> criu.Wanted:
    """What the options of checkpoint or restore ask of criu."""
    images = os.path.abspath(opts.text("image-path") or "checkpoint")
    made = criu.Wanted(images, os.path.abspath(opts.text("work-path") or images))
    made.flags = {name for name in criu.FLAGS if opts.flag(name)}
    made.values = {name: opts.text(name) for name in criu.VALUES if opts.text(name)}
    made.parent = opts.text("parent-path")
    made.cgroups = opts.text("manage-cgroups-mode")
    made.empty_ns = opts.texts("empty-ns")
    made.page_server = opts.text("page-server")
    if opts.text("status-fd"):
        made.status_fd = opts.number("status-fd")
    return made
