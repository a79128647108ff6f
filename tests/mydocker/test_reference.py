"""Names of images: docker's own examples, and properties that hold for any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyoci.mydocker.reference import InvalidReference, Reference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full", "shown"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.35", "docker.io/library/busybox:1.35", "busybox:1.35"),
        ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("me/app", "docker.io/me/app:latest", "me/app:latest"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
        ("127.0.0.1:5000/a/b/c:v1", "127.0.0.1:5000/a/b/c:v1", "127.0.0.1:5000/a/b/c:v1"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("UPPER/app", "UPPER/app:latest", "UPPER/app:latest"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}", f"busybox@{DIGEST}"),
        (f"busybox:1@{DIGEST}", f"docker.io/library/busybox:1@{DIGEST}", f"busybox:1@{DIGEST}"),
        ("a.b__c-d---e/f", "a.b__c-d---e/f:latest", None),
        ("a__b-c---d/e.f", "docker.io/a__b-c---d/e.f:latest", "a__b-c---d/e.f:latest"),
    ],
)
def test_parse(text: str, full: str, shown: str | None) -> None:
    if shown is None:
        with pytest.raises(InvalidReference):
            Reference.parse(text)  # a dot makes it a host, which has no underscores
        return
    found = Reference.parse(text)
    assert (found.full(), str(found)) == (full, shown)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "/",
        "a//b",
        "/a",
        "a/",
        "A",
        "busybox:",
        "busybox:a b",
        "busybox:.a",
        "busybox@sha256:12",
        "a@",
        "-a",
        "a-",
        "../etc",
        "../../etc",
        "a/../b",
        "a___b",
        "a..b",
        "http://host/a",
        "host:port/a",
        "a:b:c",
        "a\nb",
        "a\x00",
        "ä",
        "busybox:" + "a" * 129,
        "a" * 256,
        "a/" * 600,
        "[::1/a",
        "x.y:99999999/a",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        Reference.parse(text)


@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    """It is a name, whose complete spelling is the same name, or it is refused."""
    try:
        found = Reference.parse(text)
    except InvalidReference:
        return
    assert Reference.parse(found.full()) == found
    assert Reference.parse(str(found)) == found


COMPONENT = st.from_regex(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*", fullmatch=True).filter(lambda part: len(part) < 30)
HOST = st.sampled_from(["", "localhost/", "localhost:5000/", "registry.test/", "127.0.0.1:1/"])
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}", fullmatch=True)


@given(HOST, st.lists(COMPONENT, min_size=1, max_size=4), TAG, st.booleans())
def test_round_trip(host: str, parts: list[str], tag: str, digest: bool) -> None:
    if not host and len(parts) > 1 and ("." in parts[0] or parts[0] == "localhost"):
        parts = ["x", *parts]
    text = f"{host}{'/'.join(parts)}:{tag}" + (f"@{DIGEST}" if digest else "")
    found = Reference.parse(text)
    assert (found.tag, found.digest) == (tag, DIGEST if digest else "")
    assert found.path.endswith("/".join(parts))
    assert Reference.parse(str(found)) == found
    assert Reference.parse(found.full()) == found
