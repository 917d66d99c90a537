"""The build hook: compiles the C sources of this folder into one module, ``kvcache.compiled.native``, where that can be done.

hatchling runs it for a wheel, which gets the module, and for an editable install, where it lies beside its sources. Nodes
never import it, and no wheel has it. The module is optional: where it can't be compiled one line says why, and the build
goes on. ``KVCACHE_COMPILED`` in the environment of the build may be ``0``: don't compile, or ``require``: fail without.

An editable install that has no new module loses the old one too: what runs is what the sources say, or plain Python.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
from pathlib import Path
from subprocess import CalledProcessError
from tempfile import TemporaryDirectory
from typing import Any, Final

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

__all__ = ["CannotCompile", "CompiledHook"]

FOLDER: Final = "kvcache/compiled"
MODULE: Final = "kvcache.compiled.native"
PRODUCTS: Final = ("native*.so", "native*.pyd")

CHOICE: Final = "KVCACHE_COMPILED"
SKIP: Final = "0"
TRY: Final = "1"
REQUIRE: Final = "require"

FLAGS: Final = ["/std:c11", "/O2"] if os.name == "nt" else ["-std=c11", "-O3"]
"""What is added to the flags that the interpreter was built with."""


class CannotCompile(Exception):
    """Why there is no compiled module."""


class CompiledHook(BuildHookInterface[BuilderConfig]):
    """Compiles into a folder of its own: of what a compiler leaves behind, nothing lands in the tree."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, for an ``editable`` or a ``standard`` wheel. Without C sources there is nothing to do."""
        folder = Path(self.root, FOLDER)
        self._scratch = TemporaryDirectory(prefix="kvcache-build-")
        built, reason = None, ""
        try:
            built = _built(folder, Path(self._scratch.name), self._choice())
            if built is not None and version == "editable":
                _put(built, folder)
        except CannotCompile as error:
            built, reason = None, str(error)
        if version == "editable":
            self._remove_products(folder, built)
            self._scratch.cleanup()
        elif built is not None:
            build_data.update(pure_python=False, infer_tag=True)
            build_data["force_include"][str(built)] = f"{FOLDER}/{built.name}"
        if reason:
            self._report(reason)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Drop the folder: the wheel has what it needs."""
        self._scratch.cleanup()

    def _remove_products(self, folder: Path, built: Path | None) -> None:
        """Remove the compiled modules of other Pythons and of earlier sources: all that are not ``built``."""
        for product in (product for pattern in PRODUCTS for product in folder.glob(pattern)):
            if built is None or product.name != built.name:
                try:
                    product.unlink()
                except OSError as error:
                    self.app.abort(f"kvcache: {product} is of earlier sources, and can't be removed: {error.strerror}")

    def _choice(self) -> str:
        choice = os.environ.get(CHOICE) or TRY
        if choice not in (SKIP, TRY, REQUIRE):
            self.app.abort(f"kvcache: {CHOICE}={choice!r:.60} must be {SKIP}, {TRY} or {REQUIRE}")
        return choice

    def _report(self, reason: str) -> None:
        if self._choice() == REQUIRE:
            self.app.abort(f"kvcache: the compiled part could not be built, and {CHOICE}={REQUIRE}: {reason}")
        self.app.display_warning(f"kvcache: built without its compiled part, nodes run slower without it: {reason}")


def _built(folder: Path, scratch: Path, choice: str) -> Path | None:
    """Return the module that the C sources in ``folder`` make, None without any. Raises ``CannotCompile``."""
    sources = sorted(map(str, folder.glob("*.c")))
    if not sources:
        return None
    if choice == SKIP:
        raise CannotCompile(f"{CHOICE}={SKIP}")
    if platform.python_implementation() != "CPython":
        raise CannotCompile(f"it is for CPython, this is {platform.python_implementation()}")
    try:
        from setuptools import Distribution, Extension
        from setuptools.command.build_ext import build_ext
        from setuptools.errors import BaseError, CCompilerError
    except (ImportError, OSError) as error:
        raise CannotCompile(f"setuptools, which finds the compiler, is of no use: {error}") from error

    extension = Extension(MODULE, sources, include_dirs=[str(folder)], extra_compile_args=FLAGS)
    command = build_ext(Distribution({"ext_modules": [extension]}))
    command.build_lib, command.build_temp = str(scratch / "built"), str(scratch / "objects")
    try:
        command.ensure_finalized()
        command.run()
    except (BaseError, CCompilerError, OSError, ValueError) as error:  # a ValueError: CC or CFLAGS with an open quote
        raise CannotCompile(_failure(error)) from error
    return Path(command.get_ext_fullpath(MODULE))


def _failure(error: BaseException | None) -> str:
    """Say in a few words what failed: setuptools would list a whole command, and the compiler has told the rest already."""
    said = " ".join(str(error).split())
    while error is not None:
        if isinstance(error, CalledProcessError):
            return f"{error.cmd[0]} failed with exit code {error.returncode}"
        if isinstance(error, FileNotFoundError):
            return f"there is no {error.filename}"
        error = error.__cause__ or error.__context__
    return said


def _put(built: Path, folder: Path) -> None:
    """Put ``built`` beside its sources. A process that has the old one open keeps it. Raises ``CannotCompile``."""
    beside = folder / f".{built.name}"
    try:
        shutil.copy(built, beside)
        beside.replace(folder / built.name)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise CannotCompile(f"it can't be put beside its sources: {error.strerror}") from error
