"""Docker's names of images: [HOST[:PORT]/]PATH[:TAG][@DIGEST] (the distribution project's grammar)."""

from __future__ import annotations

import re

from pyoci.mydocker import errors

DEFAULT_HOST = "docker.io"
DEFAULT_TAG = "latest"
_OFFICIAL = "library/"

_ALNUM = r"[a-z0-9]+"
_COMPONENT = rf"{_ALNUM}(?:(?:\.|_|__|-+){_ALNUM})*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LIMIT = 255  # characters of host and path
_TEXT_LIMIT = 1024  # of the whole: no regular expression sees more


class InvalidReference(errors.Error):
    """Not a name that an image can have."""


class Reference:
    """One name, complete.

    host:   str, "docker.io" when none was given
    path:   str, "library/busybox"
    tag:    str, "" when there is a digest and no tag
    digest: str, "sha256:..." or ""
    """

    __slots__ = ("digest", "host", "path", "tag")

    def __init__(self, host: str, path: str, tag: str = "", digest: str = "") -> None:
        self.host = host
        self.path = path
        self.tag = tag
        self.digest = digest

    @classmethod
    def parse(cls, text: str) -> Reference:
        """What a person typed.  Raises InvalidReference."""
        if len(text) > _TEXT_LIMIT:
            raise InvalidReference(f"the name {text[:40]!r}... is longer than {_TEXT_LIMIT} characters")
        rest, at, digest = text.partition("@")
        if at and not is_digest(digest):
            raise InvalidReference(f"{digest!r} in {text!r} is no digest", hint="sha256: and 64 lower-case hex digits")
        host, path = _split_host(rest)
        path, colon, tag = path.partition(":")
        if colon and not _TAG.fullmatch(tag):
            raise InvalidReference(f"{tag!r} in {text!r} is no tag")
        if not _PATH.fullmatch(path):
            why = (
                "repository names are lower case" if path != path.lower() else "see the name's form: [HOST/]PATH[:TAG]"
            )
            raise InvalidReference(f"{text!r} is no name of an image", hint=why)
        if not _HOST.fullmatch(host):
            raise InvalidReference(f"{host!r} in {text!r} is no host")
        if host == DEFAULT_HOST and "/" not in path:
            path = _OFFICIAL + path
        if len(host) + len(path) > _LIMIT:
            raise InvalidReference(f"the repository of {text[:40]!r}... is longer than {_LIMIT} characters")
        return cls(host, path, tag or ("" if digest else DEFAULT_TAG), digest)

    @property
    def repository(self) -> str:
        """As a person sees it: "busybox", "host:5000/a/b"."""
        if self.host != DEFAULT_HOST:
            return f"{self.host}/{self.path}"
        return self.path.removeprefix(_OFFICIAL) if self.path.count("/") == 1 else self.path

    @property
    def version(self) -> str:
        """What a registry is asked for: the digest, else the tag."""
        return self.digest or self.tag

    def tagged(self) -> Reference:
        """The same without a digest."""
        return Reference(self.host, self.path, self.tag or DEFAULT_TAG)

    def at(self, digest: str) -> Reference:
        """The same repository at a digest."""
        return Reference(self.host, self.path, "", digest)

    def full(self) -> str:
        """Every part written out; parse(full()) is the same name."""
        return f"{self.host}/{self.path}{self._suffix()}"

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return f"{self.repository}{self._suffix()}"

    def __repr__(self) -> str:
        return f"Reference({self.full()!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and self.full() == other.full()

    def __hash__(self) -> int:
        return hash(self.full())


def is_digest(text: str) -> bool:
    """sha256 only: the one digest that every registry and tool has."""
    return bool(_DIGEST.fullmatch(text))


def _split_host(text: str) -> tuple[str, str]:
    """The part before the first slash is a host when it cannot be a path: a dot, a port, localhost."""
    first, slash, rest = text.partition("/")
    if not slash or not (set(first) & set(".:") or first == "localhost" or first != first.lower()):
        return DEFAULT_HOST, text
    if first == "index.docker.io":
        return DEFAULT_HOST, rest
    return first, rest
