"""The manual, the completion and the snippets: all of them from, or true to, the tables of the command line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from pyoci import cli, errors
from pyoci.cli import completion, manpages, options
from tests.integration.harness import Terminal

ROOT = Path(__file__).resolve().parents[2]
SHELLS = {"bash": completion.bash, "zsh": completion.zsh, "fish": completion.fish}


# -- the tables -------------------------------------------------------------------------------


def test_every_verb_has_its_module() -> None:
    for verb in cli.VERBS:
        module = cli.load(verb)
        assert isinstance(module.HELP, str)
        assert callable(module.run)
        names = [name for option in module.OPTIONS for name in (option.name, option.short) if name]
        assert len(names) == len(set(names)), verb


# -- manual -----------------------------------------------------------------------------------


def test_a_page_for_each_verb_with_each_option() -> None:
    pages = manpages.pages()
    assert set(pages) == {"pyoci.1", *[f"pyoci-{verb}.1" for verb in cli.VERBS]}
    for verb, _, table in completion.tables():
        for option in table:
            assert f".B {manpages.escape(option.spelling())}\n" in pages[f"pyoci-{verb}.1"]
    for option in options.GLOBAL:
        assert manpages.escape(option.spelling()) in pages["pyoci.1"]


@pytest.mark.parametrize("text", [".SH x", "'x", "a\n.b", "\\fB-x"])
def test_no_text_is_a_request(text: str) -> None:
    escaped = manpages.escape(text)
    assert not any(line[:1] in (".", "'") for line in escaped.split("\n"))
    assert "\\fB" not in escaped


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_has_nothing_to_say(tmp_path: Path) -> None:
    manpages.main(str(tmp_path))
    files = sorted(tmp_path.iterdir())
    done = subprocess.run(
        ["groff", "-P-c", "-man", "-wall", "-Tutf8", "-Kutf8", *files], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "--console-socket PATH" in re.sub(".\x08", "", done.stdout)  # bold is overstruck


# -- completion -------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_all(shell: str) -> None:
    script = SHELLS[shell]()
    for verb, _, table in completion.tables():
        assert verb in script
        for option in table:
            assert (f"-l {option.name}" if shell == "fish" else f"--{option.name}") in script


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_can_read_it(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "script"
    script.write_text(SHELLS[shell]())
    subprocess.run([shell, "-n", script], check=True, timeout=20)


def complete(tmp_path: Path, *words: str) -> set[str]:
    """What bash offers for the last word.  The `pyoci` it asks for ids has two containers, and says which root."""
    stub = tmp_path / "bin" / "pyoci"
    stub.parent.mkdir(exist_ok=True)
    stub.write_text('#!/bin/sh\n[ "$1" = --root ] && echo "in$2" || echo box1\necho box2\n')
    stub.chmod(0o755)
    script = completion.bash()
    line = " ".join(["'" + word + "'" for word in words])
    script += f"\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _pyoci; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": f"{stub.parent}:/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_completes(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert complete(tmp_path, "pyoci", "st") == {"start", "state"}
    assert complete(tmp_path, "pyoci", "--ro") >= {"--root"}
    assert complete(tmp_path, "pyoci", "--log-format", "") == {"text", "json"}
    assert complete(tmp_path, "pyoci", "kill", "") == {"box1", "box2"}
    assert complete(tmp_path, "pyoci", "--root", "/x", "kill", "") == {"in/x", "box2"}
    assert complete(tmp_path, "pyoci", "kill", "box1", "K") == {"KILL"}
    assert complete(tmp_path, "pyoci", "kill", "--a") == {"--all"}
    assert complete(tmp_path, "pyoci", "delete", "box1", "box2", "b") == {"box1", "box2"}
    assert complete(tmp_path, "pyoci", "create", "--bundle", "b") == {"bin"}
    assert complete(tmp_path, "pyoci", "create", "--pid-file", "f") == {"file"}
    assert complete(tmp_path, "pyoci", "completion", "") == {"bash", "zsh", "fish"}
    assert complete(tmp_path, "pyoci", "help", "sta") == {"start", "state"}


def environment(tmp_path: Path) -> dict[str, str]:
    """A PATH whose pyoci knows one container, a directory of one's own."""
    stub = tmp_path / "bin" / "pyoci"
    stub.parent.mkdir()
    stub.write_text("#!/bin/sh\necho walnut\n")
    stub.chmod(0o755)
    return {"PATH": f"{stub.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "TERM": "dumb"}


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes(tmp_path: Path) -> None:
    (tmp_path / "script").write_text(completion.fish())
    env = environment(tmp_path)

    def offered(line: str) -> set[str]:
        argv = ["fish", "--no-config", "-c", f"source {tmp_path}/script; complete -C '{line}'"]
        done = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=20)
        return {row.split("\t")[0] for row in done.stdout.splitlines()}

    assert offered("pyoci st") == {"start", "state"}
    assert "--root" in offered("pyoci --ro")
    assert "walnut" in offered("pyoci kill w")
    assert "--pid-file" in offered("pyoci create --pid-")
    assert offered("pyoci list --format ") >= {"table", "json"}


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("pyoci checkp", "pyoci checkpoint"),
        ("pyoci kill wal", "pyoci kill walnut"),
        ("pyoci create --bun", "pyoci create --bundle"),
        ("pyoci --log-f", "pyoci --log-format"),
        ("pyoci exec wal", "pyoci exec walnut"),
    ],
)
def test_zsh_completes(typed: str, shown: str, tmp_path: Path) -> None:
    """An interactive zsh, as far as its terminal shows it."""
    (tmp_path / "_pyoci").write_text(completion.zsh())
    (tmp_path / ".zshrc").write_text(
        f"fpath=({tmp_path} $fpath)\nautoload -Uz compinit\ncompinit -u -d {tmp_path}/dump\n"
        "setopt no_beep\nPS1='ready> '\n"
    )
    words = [f"{name}={value}" for name, value in environment(tmp_path).items()]
    with Terminal(["env", "-i", *words, f"ZDOTDIR={tmp_path}", "zsh", "-i", "-o", "no_global_rcs"]) as terminal:
        terminal.read("ready> ")
        terminal.type(f"{typed}\t")
        terminal.read(shown)
        terminal.type("\x15exit\n")
        assert terminal.wait() == 0


def test_no_such_shell() -> None:
    with pytest.raises(errors.UsageError, match="tcsh"):
        completion.run(options.Parsed(), options.parse(["tcsh"], ()))


# -- snippets ---------------------------------------------------------------------------------


def test_snippets() -> None:
    """As installed, and read as the engines read them."""
    share = ROOT / "share"
    podman = tomllib.loads((share / "containers.conf.d" / "pyoci.conf").read_text())
    assert podman["engine"]["runtimes"]["pyoci"] == ["@BINDIR@/pyoci"]
    assert "pyoci" in podman["engine"]["runtime_supports_json"]
    docker = json.loads((share / "docker" / "daemon.json").read_text())
    assert docker["runtimes"]["pyoci"]["path"] == "@BINDIR@/pyoci"
    for name, version, plugin in (
        ("config-1.toml", 2, "io.containerd.grpc.v1.cri"),
        ("config-2.toml", 3, "io.containerd.cri.v1.runtime"),
    ):
        config = tomllib.loads((share / "containerd" / name).read_text())
        assert config["version"] == version
        runtime = config["plugins"][plugin]["containerd"]["runtimes"]["pyoci"]
        assert runtime["options"]["BinaryName"] == "@BINDIR@/pyoci"
