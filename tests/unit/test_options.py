"""The option parser: runc's spellings (ENGINE-CONTRACT 2.1), Go's error texts, and never anything but a UsageError."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyoci import cli, errors
from pyoci.cli import help, options
from pyoci.cli.options import Option, Parsed, parse

TABLE = (
    Option("bundle", "a text", "DIR", short="b"),
    Option("detach", "a flag", short="d"),
    Option("env", "many", "NAME=VALUE", short="e", many=True),
    Option("preserve-fds", "a number", "N"),
    Option("format", "a choice", "FORMAT", short="f", choices=("table", "json")),
)


def read(*argv: str, mixed: bool = True) -> Parsed:
    return parse(argv, TABLE, mixed=mixed)


# -- spellings --------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [["--bundle", "x"], ["--bundle=x"], ["-bundle", "x"], ["-bundle=x"], ["-b", "x"]])
def test_text(argv: list[str]) -> None:
    assert read(*argv).text("bundle") == "x"
    assert read(*argv, "id").args == ["id"]
    assert read("id", *argv).args == ["id"]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("--detach", True),
        ("-detach", True),
        ("-d", True),
        ("--detach=true", True),
        ("--detach=1", True),
        ("--detach=false", False),
        ("--detach=F", False),
    ],
)
def test_flag(word: str, value: bool) -> None:
    parsed = read(word, "id")
    assert parsed.flag("detach") is value
    assert parsed.args == ["id"]
    assert "detach" in parsed.values


def test_defaults() -> None:
    parsed = read()
    assert parsed.flag("detach") is False
    assert parsed.text("bundle") == ""
    assert parsed.number("preserve-fds") == 0
    assert parsed.texts("env") == []
    assert parsed.args == []


def test_the_last_one_wins_unless_many() -> None:
    """podman gives --leave-running twice."""
    parsed = read("-d", "-d", "-b", "x", "-b", "y", "-e", "A=1", "--env=B=2")
    assert parsed.flag("detach")
    assert parsed.text("bundle") == "y"
    assert parsed.texts("env") == ["A=1", "B=2"]


def test_a_value_may_look_like_an_option() -> None:
    """`--resources -`, and what follows an option that wants a value is its value."""
    assert read("--bundle", "-", "id").text("bundle") == "-"
    assert read("--bundle", "--detach").text("bundle") == "--detach"
    assert read("--bundle=").text("bundle") == ""
    assert read("--env=A=b=c").texts("env") == ["A=b=c"]


def test_the_end_of_options() -> None:
    assert read("--", "--bundle", "x").args == ["--bundle", "x"]
    assert read("id", "--", "-d").args == ["id", "-d"]
    assert read("-", "id").args == ["-", "id"]


def test_exec_stops_at_its_first_argument() -> None:
    """The options of the command that is executed are its own."""
    parsed = read("-d", "id", "sh", "-c", "x", "--bundle", mixed=False)
    assert parsed.args == ["id", "sh", "-c", "x", "--bundle"]
    assert parsed.flag("detach")


TTY = (Option("tty", "a flag", short="t"), *TABLE)


@pytest.mark.parametrize(
    ("argv", "values"),
    [
        (["-td"], {"tty": ["true"], "detach": ["true"]}),
        (["-tdb", "x"], {"tty": ["true"], "detach": ["true"], "bundle": ["x"]}),
        (["-b/x=y"], {"bundle": ["/x=y"]}),
        (["-tb/x"], {"tty": ["true"], "bundle": ["/x"]}),
        (["-?"], {"help": ["true"]}),
        (["--usage"], {"help": ["true"]}),
    ],
)
def test_spellings_of_crun(argv: list[str], values: dict[str, list[str]]) -> None:
    """One-letter options joined, as getopt(3) has it."""
    assert parse(argv, TTY).values == values


@pytest.mark.parametrize("word", ["-tx", "-dbogus", "-t=d", "-td=false", "-bogus", "-d-", "--td", "-é"])
def test_what_is_not_joined(word: str) -> None:
    with pytest.raises(errors.UsageError):
        parse([word], TTY)


# -- what runc and crun have --------------------------------------------------------------------

VERBS_OF_BOTH = "create run start state kill delete exec list ps pause resume update events spec checkpoint restore"


def options_of(runtime: str, verb: str) -> list[tuple[str, str, bool]]:
    """(name, letter or "", whether it takes a value) of each option in the help of another runtime."""
    shown = subprocess.run([runtime, verb, "--help"], capture_output=True, text=True, check=False).stdout
    if runtime == "runc":
        found = re.findall(r"^ +--([\w-]+)( value)?(?:, -(\w))?", shown, re.MULTILINE)
        return [(name, letter, bool(value)) for name, value, letter in found]
    found = re.findall(r"^ +(?:-(.), |    )?--([\w-]+)(\[?=)?", shown, re.MULTILINE)
    return [(name, letter, value == "=") for letter, name, value in found]


@pytest.mark.parametrize("runtime", ["runc", "crun"])
@pytest.mark.parametrize("verb", VERBS_OF_BOTH.split())
def test_every_option_of_others(runtime: str, verb: str) -> None:
    if not shutil.which(runtime):
        pytest.skip(f"{runtime} is not installed")
    table = cli.load(verb).OPTIONS
    for name, letter, value in options_of(runtime, verb):
        word = ["json" if name == "format" else "soft" if name == "manage-cgroups-mode" else "1"] * value
        given = parse([f"--{name}", *word], table).values
        assert len(given) == 1, name
        if letter:
            assert parse([f"-{letter}", *word], table).values == given, letter


# -- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--bundle"], "flag needs an argument: -bundle"),
        (["-b"], "flag needs an argument: -b"),
        (["id", "-bundle"], "flag needs an argument: -bundle"),
        (["--detach=x"], 'invalid boolean value "x" for -detach: parse error'),
        (["--detach="], 'invalid boolean value "" for -detach: parse error'),
        (["--preserve-fds", "x"], 'invalid value "x" for flag -preserve-fds: parse error'),
        (["--preserve-fds=-1"], 'invalid value "-1" for flag -preserve-fds: parse error'),
        (["--preserve-fds=99999999999"], 'invalid value "99999999999" for flag -preserve-fds: parse error'),
        (["--preserve-fds=٣"], 'invalid value "٣" for flag -preserve-fds: parse error'),
        (["--format", "xml"], 'invalid value "xml" for flag -format'),
        (["--nope"], "flag provided but not defined: -nope"),
        (["-x=1"], "flag provided but not defined: -x"),
        (["---bundle"], "bad flag syntax: ---bundle"),
        (["--=x"], "bad flag syntax: --=x"),
        (["-=x"], "bad flag syntax: -=x"),
    ],
)
def test_go_texts(argv: list[str], text: str) -> None:
    """podman looks for "flag needs an argument" (ENGINE-CONTRACT 2.3)."""
    with pytest.raises(errors.UsageError) as info:
        read(*argv)
    assert info.value.message == text


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("--bundel", "did you mean --bundle?"),
        ("-detatch", "did you mean --detach?"),
        ("--root", "--root is a global option: it stands before the verb"),
        ("--log-format=json", "--log-format is a global option: it stands before the verb"),
        ("--qqqqqq", ""),
    ],
)
def test_hints(word: str, hint: str) -> None:
    with pytest.raises(errors.UsageError) as info:
        read(word)
    assert info.value.hint == hint


def test_verb_option_before_the_verb() -> None:
    with pytest.raises(errors.UsageError) as info:
        parse(["--pid-file", "x", "create"], options.GLOBAL, mixed=False)
    assert "after the verb" in info.value.hint


WORDS = st.one_of(
    st.sampled_from(
        ["-", "--", "---", "-b", "--bundle", "--bundle=", "-d", "--detach=true", "--detach=x", "-f", "json", "--env"]
    ),
    st.builds(lambda name, value: f"-{name}={value}", st.sampled_from([o.name for o in TABLE]), st.text()),
    st.text(),
    st.text(alphabet="-=bdef\0\udc80 x1"),
)


@given(st.lists(WORDS, max_size=8), st.booleans())
def test_any_command_line(argv: list[str], mixed: bool) -> None:
    """A result with values of the right kind, or one UsageError whose text is one line."""
    try:
        parsed = parse(argv, TABLE, mixed=mixed)
    except errors.UsageError as error:
        assert str(error).isprintable()
        return
    assert set(parsed.values) <= {"bundle", "detach", "env", "preserve-fds", "format", "help"}
    assert 0 <= parsed.number("preserve-fds") <= options.MAX_NUMBER
    assert parsed.text("format") in ("", "table", "json")
    assert isinstance(parsed.flag("detach"), bool)
    assert len(parsed.args) + len(parsed.values) <= len(argv)


@given(st.dictionaries(st.sampled_from(["bundle", "env"]), st.text(), max_size=2), st.lists(st.text(), max_size=3))
def test_what_is_written_is_read(values: dict[str, str], args: list[str]) -> None:
    argv = [word for name, value in values.items() for word in (f"--{name}", value)]
    parsed = parse([*argv, "--", *args], TABLE)
    assert {name: parsed.text(name) for name in values} == values
    assert parsed.args == args


# -- the tables -------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", cli.VERBS)
def test_tables(verb: str) -> None:
    """Every verb has one, without doubles, and its help names every option."""
    module = cli.load(verb)
    names = [option.name for option in module.OPTIONS] + [option.short for option in module.OPTIONS if option.short]
    assert len(set(names)) == len(names)
    assert not {"help", "h"} & set(names)
    shown = help.verb_help(verb)
    for option in module.OPTIONS:
        assert f"--{option.name}" in shown
        assert option.help in shown
        assert option.kind == options.NUMBER or option.value != "N"
    assert cli.VERBS[verb] in shown
    assert max(map(len, shown.splitlines())) <= 120


# What the engines give (ENGINE-CONTRACT 2.1) and this version knows.
CALLS = """
create --bundle B --pid-file F --no-pivot --no-new-keyring --preserve-fds 3 --console-socket S ID
exec --pid-file F --process JSON --detach --tty --preserve-fds 1 --console-socket S ID
exec --process F --console-socket S --detach --pid-file B/E.pid ID
start ID
delete --force ID
delete -f ID
kill ID 15
kill --all ID 9
kill ID SIGKILL
kill ID KILL --all
state ID
list --format=json
list -q
run -b B -d --keep --no-subreaper ID
run --bundle B -no-subreaper --pid-file F ID
exec -t -e A=B -u 1:2 -g 3 --cwd /x -c CAP_NET_RAW ID sh -c x
exec --user=1 --cap=NET_RAW --additional-gids=4 --apparmor p --process-label l --no-new-privs ID sh
exec --cgroup cpu:/x --ignore-paused ID sh
spec --rootless --bundle B
plan --json B
"""


@pytest.mark.parametrize("line", CALLS.strip().splitlines())
def test_engine_calls(line: str) -> None:
    verb, *rest = line.split()
    module = cli.load(verb)
    parsed = parse(rest, module.OPTIONS, mixed=module.ARGS[-1:] != ("...",))
    cli.check_arguments(verb, module.ARGS, parsed.args)
    if verb not in ("list", "spec", "plan"):
        assert parsed.args[0] == "ID"


@pytest.mark.parametrize(
    "line",
    [
        "--root R --log L --log-format json --systemd-cgroup create",
        "--log-format=json --log L --root=R --debug start",
        "--cgroup-manager disabled create",
        "-debug=true -root R list",
    ],
)
def test_global_options_in_any_order(line: str) -> None:
    parsed = parse(line.split(), options.GLOBAL, mixed=False)
    assert parsed.args[0] in cli.VERBS
