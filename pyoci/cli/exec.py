"""pyoci exec: another process in a running container."""

from __future__ import annotations

from pyoci import bundle, errors, json
from pyoci.cli import common, options
from pyoci.cli.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyoci.container import Container

ARGS = ("CONTAINER-ID", "[COMMAND]", "...")
OPTIONS = (
    Option("process", "file with the process as in config.json; then no COMMAND", "FILE", short="p"),
    Option("cwd", "working directory in the container", "DIR"),
    Option("env", "set an environment variable", "NAME=VALUE", short="e", many=True),
    Option("tty", "give it a terminal", short="t"),
    Option("user", "user, and group, to run as, by number or by name", "USER[:GROUP]", short="u"),
    Option("additional-gids", "one more group", "GROUP", short="g", many=True),
    options.DETACH,
    options.CONSOLE_SOCKET,
    options.PID_FILE,
    options.PIDFD_SOCKET,
    Option("process-label", "SELinux label", "LABEL"),
    Option("apparmor", "AppArmor profile", "NAME"),
    Option("no-new-privs", "no new privileges through execve(2)"),
    Option("cap", "add a capability", "CAP", short="c", many=True),
    options.PRESERVE_FDS,
    Option("cgroup", "run in this cgroup under the container's", "[CONTROLLER:]PATH", many=True),
    Option("ignore-paused", "also in a paused container: it waits for `resume`"),
)
HELP = """\
The process is that of config.json with COMMAND for its args, changed by the options; or it is what
--process says.  Names of users and groups are looked up in the container's /etc/passwd and /etc/group;
a name brings the groups it is a member of.  In the foreground signals and the terminal are its own, as
in `pyoci run`, and the exit status is that of the process; 255 when it could not be run.
"""


def run(given: options.Parsed, opts: options.Parsed) -> int:
    """Run the process."""
    container = common.find(given, opts.args[0])
    process = read(opts) if opts.text("process") else build(container, opts)
    settings: dict[str, Any] = {
        "console_socket": opts.text("console-socket") or None,
        "pid_file": opts.text("pid-file") or None,
        "pidfd_socket": opts.text("pidfd-socket") or None,
        "preserve_fds": opts.number("preserve-fds"),
        "cgroup": cgroups(opts.texts("cgroup")),
        "ignore_paused": opts.flag("ignore-paused"),
    }
    if opts.flag("detach"):
        container.exec(process, **settings)
        common.report(container)
        return 0
    from pyoci.host.foreground import Foreground

    with Foreground() as front:
        front.listen(bool(process.get("terminal")))  # the program may ask for a signal as soon as it runs
        child = container.exec(process, console=front.attach, **settings)
        front.wait(child.pidfd)
        status = child.wait()
    common.report(container)
    return status


def read(opts: options.Parsed) -> dict[str, Any]:
    """The process of --process FILE; Container.exec checks it.  Raises errors.InvalidConfig, errors.UsageError."""
    if len(opts.args) > 1:
        raise errors.UsageError("both --process and a command given", hint="the command stands in the file, as args")
    path = opts.text("process")
    process = json.loads(bundle.read(path), path)
    if not isinstance(process, dict):
        raise errors.InvalidConfig(f"{path}: not an object")
    return process


def build(container: Container, opts: options.Parsed) -> dict[str, Any]:
    """The container's process, changed by the options.  Raises errors.UsageError.  (As utils_linux.go of runc does.)"""
    if len(opts.args) < 2:
        raise errors.UsageError("process args cannot be empty", hint="give a command, or --process FILE")
    process = dict(container.config.get("process") or {"cwd": "/"})
    process["args"] = opts.args[1:]
    process["terminal"] = opts.flag("tty")  # never config.json's
    for name, key in (("cwd", "cwd"), ("apparmor", "apparmorProfile"), ("process-label", "selinuxLabel")):
        if opts.text(name):
            process[key] = opts.text(name)
    if "no-new-privs" in opts.values:
        process["noNewPrivileges"] = opts.flag("no-new-privs")
    process["env"] = environment(process.get("env", ()), opts.texts("env"))
    if opts.text("user") or opts.texts("additional-gids"):
        process["user"] = container.user(opts.text("user"), opts.texts("additional-gids"), process.get("user"))
    if opts.texts("cap"):
        process["capabilities"] = capabilities(process.get("capabilities", {}), opts.texts("cap"))
    return process


def environment(base: Sequence[str], extra: Sequence[str]) -> list[str]:
    """Variables, a later one in place of an earlier one."""
    result = {}
    for variable in (*base, *extra):
        name, equals, value = variable.partition("=")
        if not name or not equals:
            raise errors.UsageError(f'invalid environment variable: "{variable}"', hint="--env NAME=VALUE")
        result[name] = value
    return [f"{name}={value}" for name, value in result.items()]


def capabilities(base: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Capabilities of --cap added to the sets that make them effective.

    Not to inheritable and ambient: CVE-2022-29162.
    """
    wanted = [name.upper() if name.upper().startswith("CAP_") else f"CAP_{name.upper()}" for name in names]
    result = dict(base)
    for kind in ("bounding", "effective", "permitted"):
        result[kind] = list(dict.fromkeys([*(base.get(kind) or ()), *wanted]))
    return result


def cgroups(given: Sequence[str]) -> dict[str, str] | None:
    """{controller: path} of --cgroup, the controller "" for all; None when not given.  Raises errors.UsageError."""
    paths = {}
    for value in given:
        controllers, colon, path = value.rpartition(":")
        if not path or ":" in controllers or (not colon and len(given) > 1):
            raise errors.UsageError(f"invalid --cgroup argument: {value}", hint="[CONTROLLER[,CONTROLLER]:]PATH")
        paths.update(dict.fromkeys(controllers.split(","), path))
    return paths or None
