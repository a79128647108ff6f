"""SECURITY 18: the plan reader of nsexec under libFuzzer, ASan and UBSan: a short run; `make fuzz` is the long one.
(tests/unit/test_nsexec_reader.py feeds the whole program.)"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.harness import PROJECT
from tests.security import corpus
from tests.security.conftest import rounds

HERE = Path(__file__).parent
SANITIZE = ["-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]


def test_corpus_has_every_operation() -> None:
    """python3 -m tests.security.corpus"""
    for name, data in corpus.seeds().items():
        assert (corpus.CORPUS / name).read_bytes() == data, name


@pytest.mark.skipif(not shutil.which("clang"), reason="needs clang, with libFuzzer")
def test_fuzz(tmp_path: Path) -> None:
    """The corpus, and some hundred thousand changes to it."""
    binary, found = tmp_path / "fuzz", tmp_path / "found"
    found.mkdir()
    subprocess.run(["clang", *SANITIZE, "-o", binary, HERE / "fuzz_plan.c", PROJECT / "libexec/plan.c"], check=True)
    limits = [f"-runs={rounds(200_000, 50_000_000)}", "-max_len=4096", "-timeout=10", "-rss_limit_mb=1024", "-seed=1"]
    done = subprocess.run(
        [binary, *limits, f"-artifact_prefix={tmp_path}/", found, corpus.CORPUS], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
