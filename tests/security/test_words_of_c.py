"""SECURITY 7, 14, 17: what C makes of a command line and of an /etc/passwd (fuzz_words.c), held against Python.

The launcher may leave a command line to Python; what it takes must mean the same there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyoci import cli, errors, spec
from pyoci.cli import options
from pyoci.host import process
from tests.integration.harness import PROJECT
from tests.security.conftest import rounds

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
APART = ("main.c", "launch.c", "verbs.c", "process.c")  # the last two are in fuzz_words.c
SOURCES = [path for path in sorted((PROJECT / "libexec").glob("*.c")) if path.name not in APART]
ROOT = "/run/pyoci"
EXAMPLES = rounds(200, 5_000)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that says what C makes of words."""
    if not shutil.which("cc"):
        pytest.skip("there is no compiler here")
    binary = tmp_path_factory.mktemp("words") / "words"
    flags = ["-std=gnu11", "-O1", "-w", "-static", "-DANSWER", "-o", str(binary)]
    subprocess.run(["cc", *flags, HERE / "fuzz_words.c", *SOURCES], check=True)
    return binary


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("clang"), reason="needs clang, with libFuzzer")
def test_fuzz(tmp_path: Path) -> None:
    """The same under the sanitizers."""
    flags = ["-std=gnu11", "-g", "-O1", "-w", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(["clang", *flags, "-o", tmp_path / "fuzz", HERE / "fuzz_words.c", *SOURCES], check=True)
    limits = ["-runs=10000000", "-max_len=2048", "-timeout=10", "-rss_limit_mb=1024", "-seed=1"]
    done = subprocess.run(
        [tmp_path / "fuzz", *limits, f"-artifact_prefix={tmp_path}/"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]


def parsed_by_c(words: Path, line: list[str]) -> tuple[str, str, str, int, bool] | None:
    """(root, id, verb, signal, force) of a command line; None when it is left to Python."""
    done = subprocess.run([words, "parse", *map(os.fsencode, line)], capture_output=True, env={})
    if done.returncode:
        assert done.returncode == 1
        return None
    root, id, verb, signal, force = map(os.fsdecode, done.stdout.split(b"\0"))
    return root, id, ("", "state", "start", "kill", "delete")[int(verb)], int(signal), force == "1"


def parsed_by_python(line: list[str]) -> tuple[str, str, str, int, bool]:
    """The same of Python, which raises errors.Error for what is wrong."""
    given_options = options.parse(line, options.GLOBAL, mixed=False)
    verb, rest = cli.choose(given_options)
    module = cli.load(verb)
    opts = options.parse(rest, module.OPTIONS, mixed=module.ARGS[-1:] != ("...",))
    cli.check_arguments(verb, module.ARGS, opts.args)
    spec.check_id(opts.args[0])
    signal = process.signal_number(opts.args[1]) if verb == "kill" else 0
    return given_options.text("root") or ROOT, opts.args[0], verb, signal, verb == "delete" and opts.flag("force")


VERBS = st.sampled_from(["state", "start", "kill", "delete", "list", "exec"])
SIGNALS = st.sampled_from(["9", "TERM", "sigkill", "SIGSIGKILL", "0", "64", "65", "-1", "09", "0x9", "9 ", "RTMIN", ""])
VALUES = st.sampled_from(["/r", "", "x", "text", "json", "state", "-r", "a=b"])
OPTIONS = st.one_of(
    st.tuples(st.sampled_from(["-", "--", "---"]), st.sampled_from(["root", "log", "log-format"])).map("".join),
    st.sampled_from(
        ["--systemd-cgroup", "-systemd-cgroup", "--systemd-cgroup=false", "--debug", "--", "-", "-v", "-h"]
    ),
)
WHOLE = st.tuples(OPTIONS, VALUES).map("=".join)
IDS = st.sampled_from(["a", "b-1", "X.y_+"]) | st.text(st.sampled_from("aZ09_+-./ é\\\x7f"), max_size=5)
FORCE = st.sampled_from(["-f", "--force", "-force", "--force=false", "-f=0", "--all", "-a"])
BEFORE = st.one_of(
    st.just([]), st.tuples(OPTIONS, VALUES).map(list), WHOLE.map(lambda word: [word]), OPTIONS.map(lambda word: [word])
)
PLAIN = st.sampled_from(["a", "b-1"])
PARTS = st.one_of(
    st.tuples(
        st.sampled_from([[], ["--root", "/r"], ["-log=x"]]),
        st.tuples(st.sampled_from(["state", "start", "delete"]), PLAIN)
        | st.tuples(st.just("kill"), PLAIN, SIGNALS)
        | st.tuples(st.just("delete"), FORCE, PLAIN),
    ),
    st.tuples(BEFORE, st.tuples(st.sampled_from(["state", "start", "delete"]), IDS)),
    st.tuples(BEFORE, st.tuples(st.just("kill"), IDS, SIGNALS)),
    st.tuples(BEFORE, st.tuples(st.just("delete"), FORCE, IDS)),
    st.tuples(BEFORE, st.lists(OPTIONS | VALUES | VERBS | IDS | SIGNALS | FORCE, max_size=5)),
)


def test_command_lines(words: Path) -> None:
    """What the launcher takes is what Python would take, and means the same."""
    taken = 0

    @settings(max_examples=EXAMPLES)
    @given(PARTS)
    def check(parts: tuple[list[str], Sequence[str]]) -> None:
        nonlocal taken
        line = [*parts[0], *parts[1]]
        found = parsed_by_c(words, line)
        if found is None:
            return
        taken += 1
        try:
            assert parsed_by_python(line) == found
        except errors.Error as error:
            raise AssertionError(f"Python: {error}; C: {found}") from None

    check()
    assert taken > EXAMPLES / 50, "hardly any line was taken: the test proves nothing"


@settings(max_examples=EXAMPLES)
@given(id=IDS | st.text(st.characters(exclude_characters="\0", codec="utf-8")) | st.integers(250, 260).map("a".__mul__))
def test_ids(words: Path, id: str) -> None:
    """Both know the same ids, but for those that are options or that no directory can be called."""
    try:
        spec.check_id(id)
        wanted = len(id) <= 255 and id[0] != "-"
    except errors.InvalidConfig:
        wanted = False
    assert parsed_by_c(words, ["state", id]) == ((ROOT, id, "state", 0, False) if wanted else None)


NAMES = st.sampled_from([b"", b"x", b"\xff", b"a" * 5000])
NUMBERS = st.sampled_from([b"7", b"07", b"-7", b"70", b"", b"7x", b"18446744073709551623", b"7\0"])
HOMES = st.sampled_from([b"/home", b"", b"/a b", b"relative", b"\xff", b"/" * 5000])
USERS = st.tuples(NAMES, NAMES, NUMBERS, NUMBERS, NAMES, HOMES, st.just(b"/bin/sh")).map(b":".join)
PASSWD = st.lists(
    st.one_of(USERS, USERS, st.lists(NAMES | NUMBERS | HOMES, max_size=12).map(b":".join), st.binary(max_size=8)),
    max_size=6,
).map(b"\n".join)


def home_of(text: bytes, uid: int) -> bytes:
    """passwd(5): the first line with seven fields, this uid and a home; what comes after a NUL is not read."""
    for line in text.partition(b"\0")[0].split(b"\n"):
        fields = line.split(b":")
        if len(fields) >= 7 and re.fullmatch(rb"[-+]?[0-9]+", fields[2]) and int(fields[2]) == uid and fields[5]:
            return fields[5]
    return b"/"


def asked_home(words: Path, text: bytes, uid: int) -> bytes:
    return subprocess.run([words, "home", str(uid)], input=text, capture_output=True, check=True, timeout=20).stdout


def test_homes(words: Path) -> None:
    """Whatever stands in /etc/passwd, the home of the uid, or /."""
    found = 0

    @settings(max_examples=EXAMPLES)
    @given(PASSWD)
    def check(text: bytes) -> None:
        nonlocal found
        wanted = home_of(text, 7)
        found += wanted != b"/"
        assert asked_home(words, text, 7) == wanted

    check()
    assert found > EXAMPLES / 50, "hardly any home was found: the test proves nothing"


@pytest.mark.parametrize("line", [b"\n", b":", b"a", b"a:b:7:0:x::\n", b"::::::::\n", b"\0"])
def test_homes_of_large_files(words: Path, line: bytes) -> None:
    """A MiB of it, which is what is read, is no work."""
    text = line * ((1 << 20) // len(line) - 20)
    assert asked_home(words, text, 7) == b"/"
    last = b"" if b"\0" in line else b"\na:b:7:0::/home:/bin/sh"
    assert asked_home(words, text + last, 7) == (b"/home" if last else b"/")
