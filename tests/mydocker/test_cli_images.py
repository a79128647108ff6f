"""The commands of images and volumes, as a person and a script use them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pexpect
import pytest

from pyoci.mydocker import archives, images, instructions, paths, show
from pyoci.mydocker.errors import UsageError
from tests.mydocker.conftest import MAIN, TIMEOUT
from tests.mydocker.layers import add, directory, member, tar
from tests.mydocker.test_registry import Fake, fake, put  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]

BASE = tar(directory("etc"), member("etc/passwd", b"root:x:0:0::/:/bin/sh\n"))
MORE = tar(member("etc/new", b"new"))


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_images(store: images.Store, mydocker: Run) -> None:
    """docker's columns; filters; formats for scripts."""
    assert good(mydocker("images")) == "REPOSITORY   TAG   IMAGE ID   CREATED   SIZE\n"
    image = add(store, [BASE], "base:1", Labels={"a": "b"})
    store.tag("base:1", "localhost:5000/x/y")
    nameless = add(store, [BASE, MORE])
    lines = good(mydocker("images")).splitlines()
    assert lines[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert sorted(line.split()[:3] for line in lines[1:]) == [
        ["<none>", "<none>", nameless.id[7:19]],
        ["base", "1", image.id[7:19]],
        ["localhost:5000/x/y", "latest", image.id[7:19]],
    ]
    assert all("years ago   10.2kB" in line or "years ago   20.5kB" in line for line in lines[1:])
    assert good(mydocker("images", "-q", "--no-trunc", "base")) == f"{image.id}\n"
    assert good(mydocker("images", "-q", "-f", "dangling=true")) == f"{nameless.id[7:19]}\n"
    assert good(mydocker("images", "-q", "-f", "label=a=b")) == f"{image.id[7:19]}\n"
    assert good(mydocker("images", "-q", "-f", "reference=local*/x/*")) == f"{image.id[7:19]}\n"
    shown = good(mydocker("images", "--format", "{{.Repository}}:{{.Tag}}\\t{{json .Size}}", "base"))
    assert shown.startswith('base:1\t"')
    assert good(mydocker("images", "--format", "table {{.Tag}}\\t{{.ID}}", "base")).split() == [
        "TAG",
        "IMAGE",
        "ID",
        "1",
        image.id[7:19],
    ]
    assert json.loads(good(mydocker("images", "--format", "json", "base")))["Repository"] == "base"
    assert mydocker("images", "-f", "color=red").returncode == 125
    assert mydocker("images", "--format", "{{range .}}").returncode == 1


def test_a_corrupt_record_is_told_and_hides_nothing(store: images.Store, mydocker: Run) -> None:
    add(store, [BASE], "good")
    bad = add(store, [MORE], "bad")
    Path(store.paths.images, f"{bad.id[7:]}.json").write_text("{")
    done = mydocker("images")
    assert "good" in good(done)
    assert "is no valid JSON" in done.stderr
    assert "Traceback" not in done.stderr


def test_tag_rmi_history_inspect(store: images.Store, mydocker: Run) -> None:
    image = add(store, [BASE, MORE], "base:1", Cmd=["sh"])
    good(mydocker("tag", "base:1", "base:2"))
    assert "<missing>" in good(mydocker("history", "base:2"))
    (found,) = json.loads(good(mydocker("inspect", "base:1")))
    assert found["Id"] == image.id
    assert found["RepoTags"] == ["base:1", "base:2"]
    assert found["Config"]["Cmd"] == ["sh"]
    assert good(mydocker("inspect", "-f", "{{.Id}} {{json .Config.Cmd}}", "base:1")) == f'{image.id} ["sh"]\n'
    assert mydocker("inspect", "nothing").returncode == 1
    assert good(mydocker("rmi", "base:1")) == "Untagged: base:1\n"
    assert good(mydocker("rmi", image.id[:19])) == f"Untagged: base:2\nDeleted: {image.id}\n"
    done = mydocker("rmi", "base:1")
    assert (done.returncode, done.stderr) == (1, "mydocker: no such image: base:1; hint: mydocker pull base:1\n")
    for name in ("../../etc", "a b", "", "-x/y"):
        assert mydocker("tag", "base:1", "--", name).returncode in (1, 125)


def test_save_load(store: images.Store, mydocker: Run, tmp_path: Path) -> None:
    """By file and by pipe; a failed save leaves no file; a name is kept, an id has none."""
    image = add(store, [BASE], "base:1")
    out = tmp_path / "out.tar"
    good(mydocker("save", "-o", str(out), "base:1"))
    good(mydocker("rmi", "base:1"))
    assert good(mydocker("load", "-i", str(out))) == "Loaded image: base:1\n"
    assert store.resolve("base:1").id == image.id
    command = [
        "sh",
        "-c",
        f'"$0" -I -S {MAIN} --root {store.paths.root} save {image.id[7:19]} | gzip >{tmp_path}/piped',
    ]
    subprocess.run([*command, sys.executable], check=True)
    good(mydocker("rmi", "base:1"))
    with (tmp_path / "piped").open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(MAIN), "--root", store.paths.root, "load"],
            stdin=file,
            capture_output=True,
            text=True,
        )
    assert good(done) == f"Loaded image ID: {image.id}\n"
    assert mydocker("save", "-o", str(tmp_path / "no.tar"), "missing").returncode == 1
    assert not (tmp_path / "no.tar").exists()
    assert sorted(os.listdir(tmp_path)) == ["out.tar", "piped"]
    assert mydocker("load", "-i", str(tmp_path / "none")).stderr.endswith("none: No such file or directory\n")


def test_import_with_changes(store: images.Store, mydocker: Run, tmp_path: Path) -> None:
    (tmp_path / "rootfs.tar").write_bytes(BASE)
    changes = [
        "-c",
        'CMD ["a", "b"]',
        "-c",
        "ENV X=1 Y='2 3'",
        "-c",
        "EXPOSE 80 53/udp",
        "-c",
        "LABEL a=b",
        "-c",
        "WORKDIR /w",
    ]
    identity = good(mydocker("import", *changes, "-m", "why", str(tmp_path / "rootfs.tar"), "mine:1")).strip()
    image = store.resolve("mine:1")
    assert image.id == identity
    assert (image.process.cmd, image.process.env, image.process.cwd) == (["a", "b"], ["X=1", "Y=2 3"], "/w")
    assert (image.process.ports, image.process.labels) == (["53/udp", "80/tcp"], {"a": "b"})
    assert mydocker("import", "-c", "RUN x", str(tmp_path / "rootfs.tar")).returncode == 125


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CMD a b", {"Cmd": ["/bin/sh", "-c", "a b"], "Env": ["A=1"]}),
        ('entrypoint ["x"]', {"Entrypoint": ["x"], "Env": ["A=1"]}),
        ("ENV A=2", {"Env": ["A=2"]}),
        ("ENV A 2 3", {"Env": ["A=2 3"]}),
        ("USER 1:2", {"User": "1:2", "Env": ["A=1"]}),
        ('VOLUME ["/a"]', {"Volumes": {"/a": {}}, "Env": ["A=1"]}),
        ("STOPSIGNAL INT", {"StopSignal": "INT", "Env": ["A=1"]}),
    ],
)
def test_instructions(text: str, expected: dict[str, Any]) -> None:
    assert instructions.apply({"Env": ["A=1"]}, [text]) == expected


@pytest.mark.parametrize("text", ["", "CMD", "RUN x", "CMD [1]", "CMD [", "ENV 'x", "LABEL =b", "FROM x"])
def test_bad_instructions(text: str) -> None:
    with pytest.raises(UsageError):
        instructions.apply({}, [text])


def test_pull_lines(store: images.Store, mydocker: Run, fake: Callable[..., tuple[str, type[Fake]]]) -> None:  # noqa: F811
    """Without a terminal: docker's lines."""
    host, handler = fake()
    _, blobs = put(handler, [BASE])
    layer = next(name[7:19] for name, data in blobs.items() if data[:2] == b"\x1f\x8b")
    lines = good(mydocker("pull", f"{host}/a")).splitlines()
    assert lines[:3] == ["Using default tag: latest", "latest: Pulling from a", f"{layer}: Pulling fs layer"]
    assert f"{layer}: Pull complete" in lines
    assert lines[-3].startswith("Digest: sha256:")
    assert lines[-2:] == [f"Status: Downloaded newer image for {host}/a:latest", f"{host}/a:latest"]
    assert f"Status: Image is up to date for {host}/a:latest" in good(mydocker("pull", f"{host}/a"))
    assert good(mydocker("pull", "-q", f"{host}/a")) == f"{host}/a:latest\n"
    done = mydocker("pull", f"{host}/missing:1")
    assert done.returncode == 1
    assert "has no missing/1" in done.stderr


def test_pull_on_a_terminal(store: images.Store, fake: Callable[..., tuple[str, type[Fake]]]) -> None:  # noqa: F811
    """A bar per layer."""
    host, handler = fake()
    put(handler, [BASE, tar(member("big", os.urandom(900_000)))])
    arguments = ["-I", "-S", str(MAIN), "--root", store.paths.root, "pull", f"{host}/a"]
    child = pexpect.spawn(sys.executable, arguments, timeout=TIMEOUT, dimensions=(24, 120))
    child.expect("Pull complete")
    child.expect("Status: ")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_interrupted_pull(store: images.Store, fake: Callable[..., tuple[str, type[Fake]]]) -> None:  # noqa: F811
    """Ctrl-C ends it at once, though the registry says nothing; what has arrived stays."""
    host, handler = fake()
    handler.stalled.clear()
    put(handler, [tar(member("big", os.urandom(900_000)))])
    arguments = ["-I", "-S", str(MAIN), "--root", store.paths.root, "pull", f"{host}/a"]
    child = pexpect.spawn(sys.executable, arguments, timeout=TIMEOUT, dimensions=(24, 120))
    child.expect("Downloading")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    handler.stalled.set()
    assert child.exitstatus == 130
    assert max(path.stat().st_size for path in Path(store.paths.partial).iterdir()) > 0
    store.pull(f"{host}/a")
    assert "Range" in handler.asked[-1][1]


def test_volumes(mydocker: Run, places: paths.Paths) -> None:
    assert good(mydocker("volume", "create", "--label", "a=b", "data")) == "data\n"
    assert good(mydocker("volume", "create", "data")) == "data\n"
    anonymous = good(mydocker("volume", "create")).strip()
    assert len(anonymous) == 64
    assert good(mydocker("volume", "ls")).splitlines()[0] == "DRIVER   VOLUME NAME"
    assert good(mydocker("volume", "ls", "-q", "-f", "label=a")) == "data\n"
    (found,) = json.loads(good(mydocker("volume", "inspect", "data")))
    assert (found["Mountpoint"], found["Labels"]) == (f"{places.volumes}/data/_data", {"a": "b"})
    Path(found["Mountpoint"], "file").write_text("x")
    for name in ("../../etc", "a/b", ".hidden", "-x", "a b"):
        assert mydocker("volume", "create", "--", name).returncode == 125
        assert mydocker("volume", "rm", "--", name).returncode == 1
    assert good(mydocker("volume", "prune", "-f")) == f"{anonymous}\n"
    Path(places.volumes, "bad").mkdir()
    Path(places.volumes, "bad", "volume.json").write_text("{")
    done = mydocker("volume", "ls", "-q")
    assert good(done) == "data\n"
    assert "is no valid JSON" in done.stderr
    assert good(mydocker("volume", "rm", "data", "bad")) == "data\nbad\n"
    assert mydocker("volume", "rm", "data").returncode == 1
    assert good(mydocker("volume", "rm", "-f", "data")) == "data\n"


def test_system(store: images.Store, mydocker: Run) -> None:
    kept = add(store, [BASE], "kept")
    nameless = add(store, [BASE, MORE])
    Path(store.paths.partial, "a" * 64).write_text("half a download")
    rows = good(mydocker("system", "df")).splitlines()
    assert rows[1].split()[:3] == ["Images", "2", "0"]
    done = good(mydocker("system", "prune", "-f"))
    assert f"Deleted: {nameless.id}" in done
    assert [image.id for image in store.images()] == [kept.id]
    assert os.listdir(store.paths.partial) == []
    assert mydocker("system", "prune", input="n\n").returncode == 130
    assert f"Deleted: {kept.id}" in good(mydocker("system", "prune", "-af"))
    assert json.loads(good(mydocker("info", "-f", "json")))["Images"] == 0


def test_login(mydocker: Run, tmp_path: Path, fake: Callable[..., tuple[str, type[Fake]]]) -> None:  # noqa: F811
    """The password comes by stdin, is checked, and is kept where only the caller reads it."""
    host, handler = fake(bearer="token")
    handler.files[""] = b"{}"
    env = {"XDG_CONFIG_HOME": str(tmp_path)}
    done = mydocker("login", "-u", "me", "--password-stdin", host, input="secret\n", env=env)
    assert good(done) == "Login Succeeded\n"
    assert "secret" not in done.stdout + done.stderr
    assert (tmp_path / "mydocker/auth.json").stat().st_mode & 0o077 == 0
    assert good(mydocker("logout", host, env=env)) == f"Removing login credentials for {host}\n"
    assert good(mydocker("logout", host, env=env)) == f"Not logged in to {host}\n"
    assert mydocker("login", "-u", "me", "--password-stdin", "../x", input="x\n", env=env).returncode == 1


def test_no_tracebacks(mydocker: Run) -> None:
    """A wrong command line is a sentence, and 125."""
    for arguments in (
        ["nothing"],
        ["pull"],
        ["images", "--nothing"],
        ["--root"],
        ["pull", "A B"],
        ["history", "x", "y"],
    ):
        done = mydocker(*arguments)
        assert done.returncode in (1, 125), arguments
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (2129920, "2.13MB"), (123456789, "123MB"), (5e15, "5e+03TB")],
)
def test_sizes(number: float, text: str) -> None:
    assert show.size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (61, "About a minute"),
        (600, "10 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (86400 * 3, "3 days"),
        (86400 * 20, "2 weeks"),
        (86400 * 90, "3 months"),
        (86400 * 800, "2 years"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert show.duration(seconds) == text


def test_hostile_cells(capsys: pytest.CaptureFixture[str]) -> None:
    """What comes from an image moves no cursor."""
    show.table(["A"], [["\x1b[2Jx\ny"]])
    assert capsys.readouterr().out == "A\n?[2Jx?y\n"


def test_saved_by_hand(store: images.Store, tmp_path: Path) -> None:
    """An archive is deterministic: the same image, the same bytes."""
    image = add(store, [BASE], "base:1")
    first, second = io.BytesIO(), io.BytesIO()
    archives.save(store, [(image, ["base:1"])], first)
    archives.save(store, [(image, ["base:1"])], second)
    assert first.getvalue() == second.getvalue()
    with tarfile.open(fileobj=io.BytesIO(first.getvalue())) as file:
        assert "oci-layout" in file.getnames()


def test_mistakes_on_the_command_line(mydocker: Run) -> None:
    """docker's exit codes, and no traceback: 1 for words, 125 for options, 0 for a look at the help."""
    codes = {
        (): 1,
        ("network",): 0,
        ("container",): 0,
        ("nosuch",): 1,
        ("run",): 1,
        ("logs",): 1,
        ("exec", "x"): 1,
        ("tag", "a", "b", "c"): 1,
        ("container", "nosuch"): 1,
        ("run", "-z", "busybox"): 125,
        ("ps", "--nope"): 125,
        ("ps", "--filter", "status=weird"): 125,
        ("run", "--network"): 125,
        ("run", "--cpus", "0.0001", "busybox"): 125,
    }
    for words, code in codes.items():
        done = mydocker(*words)
        assert done.returncode == code, words
        assert done.stdout or done.stderr
        assert "Traceback" not in done.stderr


def test_longer_spellings(mydocker: Run) -> None:
    """`container ls`, `image rm`: docker's other names for the same."""
    assert good(mydocker("container", "ls", "-a")).startswith("CONTAINER ID")
    assert good(mydocker("image", "ls")).startswith("REPOSITORY")
    assert "no such image" in mydocker("image", "rm", "nosuch").stderr
    assert "No such container" in mydocker("container", "rm", "nosuch").stderr
