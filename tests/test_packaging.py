"""What is built from the tree: with its compiled part where there is a compiler, and a whole package without.

Most of it is tried on a small tree with the project's own settings and build hook, and two C files that add up to one module.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]
COMPILED = ROOT / "kvcache" / "compiled"
CALL = "from kvcache.compiled import native; print(native.answer())"

MODULE = """
#include <Python.h>
#include "answer.h"
static PyObject *told(PyObject *module, PyObject *nothing) { return PyLong_FromLong(answer()); }
static PyMethodDef methods[] = {{"answer", told, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "native", NULL, 0, methods};
PyMODINIT_FUNC PyInit_native(void) { return PyModule_Create(&definition); }
"""
SMALL_TREE = {
    "kvcache/__init__.py": "",
    "kvcache/compiled/__init__.py": "",
    "kvcache/compiled/native.pyi": "def answer() -> int: ...\n",
    "kvcache/compiled/native.c": MODULE,
    "kvcache/compiled/answer.c": '#include "answer.h"\nlong answer(void) { return 42; }\n',
    "kvcache/compiled/answer.h": "long answer(void);\n",
    "client/kvcache_client/__init__.py": "",
}
SETTINGS = ("pyproject.toml", "README.md", "LICENSE", ".gitignore")


def can_compile() -> bool:
    headers = Path(sysconfig.get_path("include"), "Python.h")
    named = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "").split()
    return bool(named) and shutil.which(named[0]) is not None and headers.is_file()


with_a_compiler = pytest.mark.skipif(not can_compile(), reason="there is no C compiler, or no Python.h")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name, text in SMALL_TREE.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name in SETTINGS:
        shutil.copy(ROOT / name, root / name)
    shutil.copy(COMPILED / "build.py", root / "kvcache/compiled")
    return root


@pytest.fixture
def real_tree(tmp_path: Path) -> Path:
    """All that a package is made of, as a clone has it."""
    root = tmp_path / "tree"
    for name in ("kvcache", "client"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in SETTINGS:
        shutil.copy(ROOT / name, root / name)
    return root


def build(tree: Path, target: str, *flags: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run hatchling as a build does, None for a variable that is not set. What it makes lies in ``out`` beside the tree."""
    command = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target",
        target,
        "--directory",
        str(tree.parent / "out"),
        *flags,
    ]
    wanted = {**os.environ, "KVCACHE_COMPILED": None, **environment}
    env = {name: value for name, value in wanted.items() if value is not None}
    return subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, timeout=120, check=False)


def built(tree: Path, suffix: str) -> Path:
    (path,) = (tree.parent / "out").glob(f"*{suffix}")
    return path


def names_in(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def products(names: set[str]) -> set[str]:
    return {name for name in names if name.endswith((".so", ".pyd"))}


def files_of(tree: Path) -> set[str]:
    return {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}


def python_with(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program that finds the packages in ``folder`` and nowhere else."""
    env = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-B", "-c", program]
    return subprocess.run(command, cwd=folder.parent, env=env, capture_output=True, text=True, timeout=60, check=False)


def unpacked(wheel: Path) -> Path:
    folder = wheel.parent / "unpacked"
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


@with_a_compiler
def test_a_wheel_has_one_compiled_module_and_says_for_which_python(tree: Path) -> None:
    before = files_of(tree)
    run = build(tree, "wheel", KVCACHE_COMPILED="require")
    assert run.returncode == 0, run.stderr
    wheel = built(tree, ".whl")
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    assert wheel.name.split("-")[2] == tag
    assert not wheel.name.endswith("-any.whl")
    names = names_in(wheel)
    assert products(names) == {"kvcache/compiled/native" + sysconfig.get_config_var("EXT_SUFFIX")}
    assert "kvcache/compiled/native.pyi" in names
    assert [name for name in names if name.endswith((".c", ".h", "build.py"))] == []
    (metadata,) = (name for name in names if name.endswith(".dist-info/WHEEL"))
    assert "Root-Is-Purelib: false" in zipfile.ZipFile(wheel).read(metadata).decode()
    assert python_with(unpacked(wheel), CALL).stdout == "42\n"
    assert files_of(tree) == before


def no_compiler(tree: Path) -> dict[str, str | None]:
    (tree.parent / "empty").mkdir()
    return {"PATH": str(tree.parent / "empty"), "CC": None}


def a_compiler_that_fails(tree: Path) -> dict[str, str]:
    return {"CC": "/bin/false"}


def flags_with_an_open_quote(tree: Path) -> dict[str, str]:
    return {"CFLAGS": '-DNAME="half'}


def a_source_that_is_no_c(tree: Path) -> dict[str, str]:
    (tree / "kvcache/compiled/answer.c").write_text("long answer(void) { return }\n")
    return {}


def no_headers_of_python(tree: Path) -> dict[str, str]:
    (tree / "kvcache/compiled/native.c").write_text(MODULE.replace("Python.h", "NoSuchPython.h"))
    return {}


def not_wanted(tree: Path) -> dict[str, str]:
    return {"KVCACHE_COMPILED": "0"}


OBSTACLES = [
    no_compiler,
    a_compiler_that_fails,
    flags_with_an_open_quote,
    a_source_that_is_no_c,
    no_headers_of_python,
    not_wanted,
]


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_without_its_compiled_part_a_wheel_is_whole_and_for_all(tree: Path, obstacle) -> None:  # type: ignore[no-untyped-def]
    run = build(tree, "wheel", **obstacle(tree))
    assert run.returncode == 0, run.stderr
    (line,) = (line for line in run.stderr.splitlines() if line.startswith("kvcache: built without its compiled part"))
    assert len(line) < 200
    assert "Traceback" not in run.stdout + run.stderr
    wheel = built(tree, "-py3-none-any.whl")
    assert products(names_in(wheel)) == set()
    assert python_with(unpacked(wheel), "import kvcache.compiled").returncode == 0


@pytest.mark.parametrize("obstacle", OBSTACLES[:-1])
def test_what_is_required_fails_with_the_reason_and_no_traceback(tree: Path, obstacle) -> None:  # type: ignore[no-untyped-def]
    run = build(tree, "wheel", **obstacle(tree) | {"KVCACHE_COMPILED": "require"})
    assert run.returncode == 1
    assert "KVCACHE_COMPILED=require: " in run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    assert list((tree.parent / "out").iterdir()) == []


def test_a_choice_that_there_is_not_is_refused(tree: Path) -> None:
    run = build(tree, "wheel", KVCACHE_COMPILED="yes")
    assert (run.returncode, run.stderr) == (1, "kvcache: KVCACHE_COMPILED='yes' must be 0, 1 or require\n")


@pytest.mark.parametrize("choice", ["", "0", "require"])
def test_without_sources_there_is_nothing_to_say(tree: Path, choice: str) -> None:
    for source in (tree / "kvcache/compiled").glob("*.c"):
        source.unlink()
    run = build(tree, "wheel", KVCACHE_COMPILED=choice)
    assert run.returncode == 0
    assert "kvcache:" not in run.stderr
    assert products(names_in(built(tree, "-py3-none-any.whl"))) == set()


def test_another_python_is_not_even_tried(tree: Path, monkeypatch, capfd) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(platform, "python_implementation", lambda: "PyPy")
    monkeypatch.delenv("KVCACHE_COMPILED", raising=False)
    (wheel,) = WheelBuilder(str(tree)).build(directory=str(tree.parent / "out"), versions=["standard"])
    assert wheel.endswith("-py3-none-any.whl")
    assert "it is for CPython, this is PyPy" in capfd.readouterr().err


@with_a_compiler
def test_an_editable_install_has_the_module_beside_its_sources_and_never_an_old_one(tree: Path) -> None:
    before = files_of(tree)
    stale = tree / "kvcache/compiled/native.cpython-30-x.so"
    stale.write_bytes(b"of another Python, and older")
    assert build(tree, "wheel:editable", KVCACHE_COMPILED="require").returncode == 0
    fresh = "kvcache/compiled/native" + sysconfig.get_config_var("EXT_SUFFIX")
    assert files_of(tree) == {*before, fresh}
    assert python_with(tree, CALL).stdout == "42\n"

    answer = tree / "kvcache/compiled/answer.c"
    answer.write_text(answer.read_text().replace("42", "43"))
    assert build(tree, "wheel:editable", "--hooks-only").returncode == 0
    assert python_with(tree, CALL).stdout == "43\n"
    assert build(tree, "wheel", CC="/bin/false").returncode == 0, "a wheel leaves alone what the tree runs"
    assert fresh in files_of(tree)
    assert products(names_in(built(tree, "-py3-none-any.whl"))) == set()

    assert build(tree, "wheel:editable", "--hooks-only", CC="/bin/false").returncode == 0
    assert files_of(tree) == before


@pytest.mark.parametrize(("choice", "status"), [("0", 0), ("require", 1)])
def test_an_old_module_goes_when_none_is_wanted_or_none_can_be_had(tree: Path, choice: str, status: int) -> None:
    before = files_of(tree)
    (tree / "kvcache/compiled/native.cpython-30-x.so").touch()
    run = build(tree, "wheel:editable", "--hooks-only", KVCACHE_COMPILED=choice, CC="/bin/false")
    assert run.returncode == status
    assert files_of(tree) == before


@with_a_compiler
def test_a_source_distribution_has_the_sources_and_makes_the_same_wheel(tree: Path) -> None:
    (tree / "kvcache/compiled/native.cpython-30-x.so").touch()
    assert build(tree, "sdist").returncode == 0
    with tarfile.open(built(tree, ".tar.gz")) as archive:
        archive.extractall(tree.parent / "source", filter="data")
    (source,) = (tree.parent / "source").iterdir()
    assert products(files_of(source)) == set()
    assert {*SMALL_TREE, "kvcache/compiled/build.py"} <= files_of(source)
    shutil.move(source, tree.parent / "again")
    assert build(tree.parent / "again", "wheel", KVCACHE_COMPILED="require").returncode == 0
    assert python_with(unpacked(built(tree, ".whl")), CALL).stdout == "42\n"


def test_the_real_package_is_whole_without_a_compiler(real_tree: Path) -> None:
    run = build(real_tree, "wheel", CC="/bin/false")
    assert run.returncode == 0, run.stderr
    wheel = built(real_tree, "-py3-none-any.whl")
    program = "import kvcache_client, kvcache.store, kvcache.compiled; print(kvcache.__file__)"
    if not (COMPILED / "__init__.py").exists():
        program = program.replace(", kvcache.compiled", "")
    run = python_with(unpacked(wheel), program)
    assert (run.returncode, str(wheel.parent) in run.stdout) == (0, True), run.stderr


@with_a_compiler
@pytest.mark.skipif(not list(COMPILED.glob("*.c")), reason="there is no C source")
def test_the_real_package_compiles_and_its_module_loads(real_tree: Path) -> None:
    run = build(real_tree, "wheel", KVCACHE_COMPILED="require")
    assert run.returncode == 0, run.stderr
    run = python_with(
        unpacked(built(real_tree, ".whl")), "import kvcache.compiled.native as native; print(native.__file__)"
    )
    assert (run.returncode, str(real_tree.parent) in run.stdout) == (0, True), run.stderr
