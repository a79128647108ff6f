"""Logins and certificates of registries, in the caller's configuration directory."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
import ssl

from pyoci.mydocker import errors, records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SYSTEM_CERTIFICATES = "/etc/docker/certs.d"  # where those who know docker have put them


class Settings:
    """$XDG_CONFIG_HOME/mydocker: auth.json (docker's form), config.json, certs.d/HOST/*.crt, *.cert, *.key."""

    def __init__(self, directory: str | None = None) -> None:
        base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.environ.get("HOME") or "/root", ".config")
        self.directory = directory or f"{base}/mydocker"
        self.logins = f"{self.directory}/auth.json"

    def login(self, host: str) -> tuple[str, str] | None:
        """User and password for a host.  Raises records.Broken."""
        entry = self._auths().get(host)
        text = entry.get("auth") if isinstance(entry, dict) else None
        if not isinstance(text, str):
            return None
        try:
            user, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise records.Broken(
                f"{self.logins} has no login for {host} that can be read", hint="log in again"
            ) from None
        return (user, password) if colon else None

    def _auths(self) -> dict[str, Any]:
        try:
            found = records.read(self.logins).get("auths")
        except FileNotFoundError:
            return {}
        return found if isinstance(found, dict) else {}

    def keep(self, host: str, user: str, password: str) -> None:
        """Write a login down; only the caller can read the file."""
        auths = self._auths()
        auths[host] = {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}
        self._write(auths)

    def forget(self, host: str) -> bool:
        """Whether there was a login."""
        auths = self._auths()
        if auths.pop(host, None) is None:
            return False
        self._write(auths)
        return True

    def _write(self, auths: dict[str, Any]) -> None:
        os.makedirs(self.directory, 0o700, exist_ok=True)
        records.write(self.logins, {"auths": auths})

    def is_insecure(self, host: str) -> bool:
        """Whether plain HTTP may be spoken: this machine, or listed as "insecure-registries" in config.json."""
        try:
            listed = records.read(f"{self.directory}/config.json").get("insecure-registries", [])
        except FileNotFoundError:
            listed = []
        return is_loopback(host) or (isinstance(listed, list) and host in listed)

    def tls(self, host: str) -> ssl.SSLContext:
        """The system's authorities, and those that certs.d has for the host.  Raises errors.Error."""
        context = ssl.create_default_context()
        for directory in (f"{_SYSTEM_CERTIFICATES}/{host}", f"{self.directory}/certs.d/{host}"):
            if os.path.isdir(directory):
                _load(context, directory)
        return context


def _load(context: ssl.SSLContext, directory: str) -> None:
    """docker's layout: *.crt are authorities, NAME.cert and NAME.key are ours."""
    for name in sorted(os.listdir(directory)):
        path = f"{directory}/{name}"
        try:
            if name.endswith(".crt"):
                context.load_verify_locations(path)
            elif name.endswith(".cert"):
                context.load_cert_chain(path, f"{path.removesuffix('.cert')}.key")
        except (OSError, ssl.SSLError) as error:
            raise errors.Error(f"cannot use the certificate {path}: {error}") from None


def is_loopback(host: str) -> bool:
    """localhost, 127.0.0.0/8, ::1; with or without a port."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
