"""exec and attach."""

from __future__ import annotations

import os

import click

from pyoci.mydocker import cli, console, containers, errors, execute, foreground, options, runspec


@options.command("exec", stops_at_image=True)
@options.option("-i", "--interactive", is_flag=True, help="Give it our stdin")
@options.option("-t", "--tty", is_flag=True, help="Give it a terminal")
@options.option("-d", "--detach", is_flag=True, help="Do not stay")
@options.option("-e", "--env", multiple=True, help="NAME=VALUE, or NAME as it is here")
@options.option("--env-file", multiple=True, help="Read variables from a file")
@options.option("-u", "--user", default="", help="USER[:GROUP], names or numbers")
@options.option("-w", "--workdir", default="", help="Directory to start in")
@options.option("--privileged", is_flag=True, help="With all capabilities")
@options.option("--detach-keys", default=console.DEFAULT_KEYS, help="Keys that leave it running")
@click.argument("name", metavar="CONTAINER")
@click.argument("args", nargs=-1, required=True, type=click.UNPROCESSED)
def command_exec(
    name: str,
    args: tuple[str, ...],
    interactive: bool,
    tty: bool,
    detach: bool,
    env: tuple[str, ...],
    env_file: tuple[str, ...],
    user: str,
    workdir: str,
    privileged: bool,
    detach_keys: str,
) -> int:
    """Run another command in a running container."""
    container = containers.find(cli.paths(), name)
    if workdir and not workdir.startswith("/"):
        raise errors.UsageError(f"the working directory {workdir!r} is not absolute", code=126)
    if not detach:
        foreground.check_terminal(tty, interactive)
    wanted = execute.Wanted(args)
    wanted.env = [
        entry if "=" in entry else f"{entry}={os.environ[entry]}"
        for entry in (*runspec.lines_of(env_file), *env)
        if "=" in entry or entry in os.environ
    ]
    wanted.user, wanted.cwd = user, workdir
    wanted.tty, wanted.stdin, wanted.detach = tty, interactive, detach
    wanted.privileged, wanted.keys = privileged, detach_keys
    return execute.run(container, wanted)


@options.command("attach")
@options.option("--no-stdin", is_flag=True, help="Only look")
@options.option("--detach-keys", default=console.DEFAULT_KEYS, help="Keys that leave it running")
@options.option("--sig-proxy", type=bool, default=True, help="Send it the signals we get (true)")
@click.argument("name", metavar="CONTAINER")
def command_attach(name: str, no_stdin: bool, detach_keys: str, sig_proxy: bool) -> int:
    """Come back to a running container."""
    container = containers.find(cli.paths(), name)
    state = container.state()
    if state.status == "paused":
        raise errors.Conflict("You cannot attach to a paused container, unpause it first")
    if not state.alive:
        raise errors.Conflict("You cannot attach to a stopped container, start it first")
    stdin = container.config["OpenStdin"] and not no_stdin
    foreground.check_terminal(container.config["Tty"], stdin)
    with container.awaited():
        stream = foreground.connect(container)
        front = foreground.session(stream, container, stdin=stdin, keys=detach_keys, proxy=sig_proxy)
        return foreground.stay(container, front)
