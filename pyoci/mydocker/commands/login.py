"""mydocker login, mydocker logout."""

from __future__ import annotations

import sys

import click

from pyoci.mydocker import auth, cli, errors, options
from pyoci.mydocker.reference import DEFAULT_HOST, Reference
from pyoci.mydocker.registry import Registry


@options.command("login")
@click.argument("host", required=False, default=DEFAULT_HOST, metavar="[HOST[:PORT]]")
@options.option("-u", "--username", default="", help="User")
@options.option("-p", "--password", default="", help="Password; others can see it in the process list")
@options.option("--password-stdin", is_flag=True, help="Read the password from stdin")
def command_login(host: str, username: str, password: str, password_stdin: bool) -> None:
    """Check a registry's user and password, and keep them."""
    host = _checked(host)
    if password_stdin:
        if password or not username:
            raise errors.UsageError("--password-stdin goes with --username and without --password")
        password = sys.stdin.readline().rstrip("\r\n")
    username = username or click.prompt("Username")
    password = password or click.prompt("Password", hide_input=True)
    settings = auth.Settings()
    registry = Registry(Reference(host, ""), settings)
    registry.login = (username, password)
    registry.check()
    settings.keep(host, username, password)
    cli.say(f"warning: the password is kept unencrypted in {settings.logins}")
    print("Login Succeeded")


@options.command("logout")
@click.argument("host", required=False, default=DEFAULT_HOST, metavar="[HOST[:PORT]]")
def command_logout(host: str) -> None:
    """Forget a registry's user and password."""
    host = _checked(host)
    print(f"Removing login credentials for {host}" if auth.Settings().forget(host) else f"Not logged in to {host}")


def _checked(host: str) -> str:
    """A host as it stands in a reference."""
    return DEFAULT_HOST if host == DEFAULT_HOST else Reference.parse(f"{host}/x").host
