"""How a check, or a test of pyoci (tests/integration/harness.py), changes the config of its box."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class Editing:
    """config: the dict that becomes config.json when the container is made."""

    config: dict[str, Any]

    @property
    def process(self) -> dict[str, Any]:
        process: dict[str, Any] = self.config["process"]
        return process

    @property
    def linux(self) -> dict[str, Any]:
        linux: dict[str, Any] = self.config["linux"]
        return linux

    def script(self, text: str) -> None:
        """Let the container run a shell script."""
        self.process["args"] = ["sh", "-c", text]

    def mount(self, destination: str, fstype: str, source: str | Path, *options: str, **more: Any) -> None:
        """Add a mount at the end of the list."""
        entry = {"destination": destination, "type": fstype, "source": str(source), "options": list(options)}
        self.config["mounts"].append({**entry, **more})

    def bind(self, destination: str, source: str | Path, *options: str, **more: Any) -> None:
        """Add a bind mount."""
        self.mount(destination, "bind", source, "rbind" if "rbind" in options else "bind", *options, **more)

    def namespace(self, kind: str, path: str | None = None) -> None:
        """Make (or join by path) a namespace."""
        self.no_namespace(kind)
        self.linux["namespaces"].append({"type": kind} if path is None else {"type": kind, "path": path})

    def no_namespace(self, kind: str) -> None:
        """Leave a namespace shared with the caller."""
        self.linux["namespaces"] = [n for n in self.linux["namespaces"] if n["type"] != kind]

    def userns(self, host: int = 100000, size: int = 65536) -> None:
        """A new user namespace, container 0.. is host .. for users and groups."""
        self.namespace("user")
        for key in ("uidMappings", "gidMappings"):
            self.linux[key] = [{"containerID": 0, "hostID": host, "size": size}]

    def hook(self, kind: str, path: str | Path, *args: str, **fields: Any) -> None:
        """Add a hook; args is its whole argv."""
        entry = {"path": str(path), **({"args": list(args)} if args else {}), **fields}
        self.config.setdefault("hooks", {}).setdefault(kind, []).append(entry)
