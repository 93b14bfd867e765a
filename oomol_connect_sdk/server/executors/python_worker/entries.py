"""The Python side of a manifest: an entry file, a function in it, and how it is called."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from oocana import Context


class EntryError(Exception):
    """The entry file or its function is not as the manifest says."""


class Entries:
    """Entry modules, each loaded once per task."""

    def __init__(self) -> None:
        self._modules: dict[Path, ModuleType] = {}
        self._loading: dict[Path, threading.Lock] = {}
        self._lock = threading.Lock()

    def function(self, path: Path, name: str) -> Callable[..., Any]:
        """That function of that file. Raises EntryError, or what importing the file raises."""
        module = self._module(path)
        if not hasattr(module, name):
            raise EntryError(f"function {name} not found in {path}")
        function = getattr(module, name)
        if not callable(function):
            raise EntryError(f"{name} is not a function in {path}")
        return function  # type: ignore[no-any-return]

    def clear(self) -> None:
        """Forget every module."""
        for module in self._modules.values():
            sys.modules.pop(module.__name__, None)
        self._modules.clear()
        self._loading.clear()

    def _module(self, path: Path) -> ModuleType:
        if not path.is_file():
            raise EntryError(f"entry file {path} not found")
        with self._lock:
            loading = self._loading.setdefault(path, threading.Lock())
        # Two jobs may need the same file at once; different files don't wait for each other.
        with loading:
            module = self._modules.get(path)
            if module is None:
                module = self._modules[path] = _load(path)
            return module


def prefer_directory(directory: Path, package_dir: Path) -> None:
    """Make imports look into the block's directory first, and into its package's root as well."""
    wanted = str(directory)
    sys.path[:] = [wanted, *(entry for entry in sys.path if entry != wanted)]
    if str(package_dir) not in sys.path:
        sys.path.append(str(package_dir))


def call_arguments(function: Callable[..., Any], context: Context) -> Sequence[Any]:
    """The positional arguments for a block's function, by the number of its parameters."""
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        return ()
    if len(parameters) > 1:
        return (context.inputs, context)
    return (context if parameters[0].annotation is Context else context.inputs,)


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine; objects with an async ``__call__`` count."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004
    )


def forget_modules(package_dir: Path, keep: Iterable[str]) -> None:
    """Make the next import of the package's own modules read their files again."""
    kept = set(keep)
    libraries = _libraries_inside(package_dir)
    for name, module in list(sys.modules.items()):
        if name not in kept and _belongs_to(module, package_dir, libraries):
            del sys.modules[name]
    importlib.invalidate_caches()


class _FreshLoader(SourceFileLoader):
    """Never takes cached bytecode: that would miss a same-size edit within one second."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _load(path: Path) -> ModuleType:
    # Blocks of a package all call their file index.py, so the file's name alone won't do.
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    importlib.invalidate_caches()
    loader = _FreshLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None:
        raise EntryError(f"entry file {path} can't be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _libraries_inside(package_dir: Path) -> Path | None:
    prefix = Path(sys.prefix)
    return prefix if package_dir in prefix.parents else None


def _belongs_to(module: ModuleType, package_dir: Path, libraries: Path | None) -> bool:
    for location in _locations(module):
        if libraries is not None and libraries in location.parents:
            continue
        if package_dir in location.parents:
            return True
    return False


def _locations(module: ModuleType) -> list[Path]:
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return [Path(file)]
    # A package without __init__.py has only directories.
    return [Path(entry) for entry in getattr(module, "__path__", ()) if isinstance(entry, str)]
