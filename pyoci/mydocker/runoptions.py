"""The options of run and create, as a table: names, docker's help in our words.  runspec.py reads what they say."""

from __future__ import annotations

import click

from pyoci.mydocker import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MANY: dict[str, Any] = {"multiple": True}
FLAG: dict[str, Any] = {"is_flag": True}

# name(s), hidden names, click's arguments, help: every option of `run` that `create` has too
_TABLE: tuple[tuple[tuple[str, ...], tuple[str, ...], dict[str, Any], str], ...] = (
    (("-a", "--attach"), (), MANY, "Only stdin, stdout or stderr"),
    (("-i", "--interactive"), (), FLAG, "Keep stdin open"),
    (("-t", "--tty"), (), FLAG, "Give it a terminal"),
    (("--rm",), (), FLAG, "Remove it when it has ended"),
    (("--name",), ("-name",), {}, "Its name"),
    (("-e", "--env"), (), MANY, "NAME=VALUE, or NAME as it is here"),
    (("--env-file",), (), MANY, "Read variables from a file"),
    (("-v", "--volume"), (), MANY, "[HOSTDIR|VOLUME:]DIR[:ro]"),
    (("--mount",), (), MANY, "type=bind|volume|tmpfs,source=...,target=...,readonly"),
    (("--tmpfs",), (), MANY, "DIR[:OPTIONS]"),
    (("-w", "--workdir"), (), {}, "Directory to start in"),
    (("-u", "--user"), (), {}, "USER[:GROUP], names or numbers"),
    (("--group-add",), (), MANY, "One more group"),
    (("--entrypoint",), (), {}, "Program in place of the image's entrypoint"),
    (("-p", "--publish"), (), MANY, "[[IP:]HOSTPORT:]PORT[/udp], ranges too"),
    (("-P", "--publish-all"), (), FLAG, "Publish every port the image exposes"),
    (("--expose",), (), MANY, "A port that -P is to publish"),
    (("--network", "--net"), ("-net", "-network"), MANY, "bridge, none, host, container:NAME or a network"),
    (("--network-alias", "--net-alias"), (), MANY, "One more name in its network"),
    (("--ip",), (), {}, "Its address in its network"),
    (("--ip6",), (), {"hidden": True, "callback": options.no_ipv6}, ""),
    (("-h", "--hostname"), (), {}, "Its host name"),
    (("--add-host",), (), MANY, "NAME:ADDRESS, a line of /etc/hosts"),
    (("--dns",), (), MANY, "A name server"),
    (("--dns-search",), (), MANY, "A search domain"),
    (("--dns-option", "--dns-opt"), (), MANY, "An option of resolv.conf"),
    (("-m", "--memory"), ("-mem",), {}, "Limit of memory: 512m"),
    (("--memory-swap",), (), {}, "Limit of memory and swap together; -1 is none"),
    (("--memory-reservation",), (), {}, "Memory it keeps when memory is short"),
    (("--cpus",), (), {"type": float}, "How many CPUs' time: 1.5"),
    (("--cpuset-cpus",), ("-cpuset", "--cpuset"), {}, "Which CPUs: 0-2,4"),
    (("--cpuset-mems",), (), {}, "Which memory nodes"),
    (("-c", "--cpu-shares"), ("-cpushare", "--cpushare"), {"type": int}, "Weight of its CPU time"),
    (("--pids-limit",), (), {"type": int}, "How many processes; -1 is no limit"),
    (("--oom-score-adj",), (), {"type": click.IntRange(-1000, 1000)}, "Who is ended first when memory is out"),
    (("--read-only",), (), FLAG, "Its root cannot be written"),
    (("--cap-add",), (), MANY, "One more capability, or ALL"),
    (("--cap-drop",), (), MANY, "One capability less, or ALL"),
    (("--privileged",), (), FLAG, "All capabilities, all devices, no seccomp"),
    (("--security-opt",), (), MANY, "no-new-privileges, seccomp=FILE|unconfined, apparmor=PROFILE"),
    (("--device",), (), MANY, "HOSTDEVICE[:PATH[:rwm]]"),
    (("--ulimit",), (), MANY, "NAME=SOFT[:HARD]"),
    (("--sysctl",), (), MANY, "NAME=VALUE"),
    (("--shm-size",), (), {}, "Size of /dev/shm (64m)"),
    (("--init",), (), FLAG, "A small init that reaps and passes signals on"),
    (("--restart",), (), {"default": "no"}, "no, on-failure[:N], always, unless-stopped"),
    (("--stop-signal",), (), {}, "What stop sends (TERM)"),
    (("--stop-timeout",), (), {"type": int}, "Seconds until stop sends KILL (10)"),
    (("-l", "--label"), (), MANY, "NAME=VALUE"),
    (("--label-file",), (), MANY, "Read labels from a file"),
    (("--pull",), (), {"type": click.Choice(["always", "missing", "never"]), "default": "missing"}, "When to pull"),
    (("-q", "--quiet"), (), FLAG, "No progress of a pull"),
    (("--platform",), (), {}, "os/architecture of the image"),
    (("--userns",), (), {}, "host, or auto[:size=65536]: ids that no other container has"),
    (("--pid",), (), {}, "host or container:NAME"),
    (("--ipc",), (), {}, "private, host, none or container:NAME"),
    (("--uts",), (), {}, "host"),
    (("--log-driver",), (), {"type": click.Choice(["json-file", "none"]), "default": "json-file"}, "Where output goes"),
    (("--log-opt",), (), MANY, "max-size=10m, max-file=3"),
    (("--cidfile",), (), {}, "Write its id to a new file"),
    (("--dry-run",), (), FLAG, "Print config.json and the pyoci command, and do nothing"),
)


def all_options(function: Any) -> Any:
    """The decorator of run and create."""
    for names, hidden, arguments, text in reversed(_TABLE):
        function = options.option(*names, hidden_names=hidden, help=text, **arguments)(function)
    return function


def decorate(function: Any) -> Any:
    """all_options, and the image and command that end them."""
    function = click.argument("command", nargs=-1, type=click.UNPROCESSED)(function)
    return all_options(click.argument("image")(function))
