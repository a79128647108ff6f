"""Making the image that pyoci/image.py imports from.  `python3 -I -S pyoci/image_make.py` makes that of its package."""

from __future__ import annotations

import ast
import marshal
import os
import struct
import sys
from importlib.util import MAGIC_NUMBER
from types import CodeType

# what is loaded where time does not matter, and is imported as usual
COLD = ("__main__", "_commit", "cold", "image", "json_slow", "schema", "spec_default", "mydocker/", "plan/text")


def path(home: str) -> str:
    """Where the image of the package in this directory is: one for each version of the interpreter."""
    return f"{home}/__pycache__/image.{sys.implementation.cache_tag}"


def write(home: str) -> None:
    """Make the image of the package in this directory.  Raises OSError, SyntaxError."""
    index = ""
    codes = b""
    for file in sorted(sources(home)):
        with open(f"{home}/{file}", "rb") as source:
            found = os.fstat(source.fileno())
            code = marshal.dumps(compiled(source.read(), f"pyoci/{file}"))
        index += f" {module_name(file)} {file} {found.st_mtime_ns:x} {found.st_size:x} {len(codes):x} {len(code):x}\n"
        codes += code
    with open(f"{home}/image.py", "rb") as source:
        loader = compiled(source.read(), "pyoci/image.py")
    head = marshal.dumps((index, loader))
    sizes = struct.pack("<II", 8 + len(head) + len(codes), len(head))
    replace(path(home), sizes + head + codes)
    write_main(home)


def write_main(home: str) -> None:
    """Make __pycache__/main.pyc of __main__.py, with the keys that prefer_compiled() in libexec/launch.c looks at."""
    with open(f"{home}/__main__.py", "rb") as source:
        keys = key(os.fstat(source.fileno())), key(os.stat(sys.executable))
        code = marshal.dumps(compiled(source.read(), "pyoci/__main__.py"))
    replace(f"{home}/__pycache__/main.pyc", MAGIC_NUMBER + struct.pack("<III", 16 + len(code), *keys) + code)


def key(found: os.stat_result) -> int:
    """What the launcher recognizes a file by: file_key() in libexec/launch.c."""
    return (found.st_mtime_ns + found.st_size) & 0xFFFFFFFF


def replace(target: str, data: bytes) -> None:
    """Write a file as a whole.  Raises OSError."""
    temporary = f"{target}.{os.getpid()}"
    os.makedirs(os.path.dirname(target), exist_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(fd, "wb") as out:
            out.write(data)
        os.rename(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def refresh(home: str) -> None:
    """Make the image anew if this user may; nothing depends on it, so no failure of it is told."""
    try:
        write(home)
    except (OSError, SyntaxError):
        pass


def sources(home: str) -> list[str]:
    """The sources that belong into the image, relative to home."""
    found = []
    for directory, _, names in os.walk(home):
        found += [os.path.relpath(f"{directory}/{name}", home) for name in names if name.endswith(".py")]
    return [file for file in found if not file.startswith(COLD)]


def module_name(file: str) -> str:
    """plan/__init__.py -> "pyoci.plan"."""
    parts = ["pyoci", *file.removesuffix(".py").split("/")]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class Strip(ast.NodeTransformer):
    """Takes out annotations, and what is there for them alone."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        """An argument."""
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """A function."""
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """A variable; without a value nothing is left of it."""
        if node.value is None:
            return ast.Pass()
        return ast.Assign(targets=[node.target], value=node.value)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        """`from __future__ import annotations`, a module of its own."""
        return ast.Pass() if node.module == "__future__" else node

    def visit_If(self, node: ast.If) -> ast.AST:
        """if TYPE_CHECKING."""
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
        return self.generic_visit(node)

    def visit(self, node: ast.AST) -> ast.AST:
        """What takes a statement's place stands on its line."""
        made: ast.AST = super().visit(node)
        return made if made is node else ast.copy_location(made, node)


def compiled(source: bytes, file: str) -> CodeType:
    """The code without annotations, docstrings, assertions and line numbers.  Raises SyntaxError."""
    tree = ast.parse(source, file)
    Strip().visit(tree)
    made: CodeType = compile(ast.fix_missing_locations(tree), file, "exec", dont_inherit=True, optimize=2)
    return without_lines(made)


def without_lines(code: CodeType) -> CodeType:
    """Without the table of line numbers and the qualified name, for tracebacks that only --debug shows: a third of all
    bytes.
    """
    inner = tuple(without_lines(const) if isinstance(const, CodeType) else const for const in code.co_consts)
    return code.replace(co_linetable=b"", co_qualname=code.co_name, co_consts=inner)


if __name__ == "__main__":
    write(os.path.dirname(os.path.abspath(__file__)))
