"""``show()`` of matplotlib and plotly: a preview, since nobody sits in front of the worker.

Nothing of them is imported before a block does so itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

Preview = Callable[[Any], None]

_PYPLOT = "matplotlib.pyplot"
_RENDERERS = "plotly.io._renderers"
#: The backend of matplotlib that draws into memory.
_AGG = "agg"


class ShowHooks(MetaPathFinder):
    """Changes the two libraries as soon as they are imported.

    ``preview`` gets what is shown: a matplotlib figure, or a payload.
    """

    def __init__(self, package: str, preview: Preview) -> None:
        self._backend = f"{package}.matplotlib_backend"
        self._preview = preview

    def install(self) -> None:
        """Be asked for every import from now on."""
        sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find one of the two modules, and prepare it once it has run."""
        if fullname == _PYPLOT:
            return _prepared(fullname, path, self._prepare_pyplot)
        if fullname == _RENDERERS and "PLOTLY_RENDERER" not in os.environ:
            return _prepared(fullname, path, self._prepare_renderers)
        return None

    def reset(self) -> None:
        """Close the figures of a task and forget its styles: the next one has its own."""
        if _PYPLOT in sys.modules:
            pyplot = sys.modules[_PYPLOT]
            pyplot.close("all")
            sys.modules["matplotlib"].rc_file_defaults()
            pyplot.switch_backend(_AGG)

    def _prepare_pyplot(self, pyplot: Any) -> None:
        if self._backend not in sys.modules:
            sys.modules[self._backend] = _make_backend(self._backend, self._preview)
        ours, switch = f"module://{self._backend}", pyplot.switch_backend

        def switch_backend(name: str) -> None:
            # Who asks for Agg wants no windows; ours draws the same.
            switch(ours if name.lower() == _AGG else name)

        pyplot.switch_backend = switch_backend
        switch_backend(_AGG)

    def _prepare_renderers(self, module: Any) -> None:
        preview = self._preview

        class PreviewRenderer(module.ExternalRenderer):  # type: ignore[misc]
            def render(self, fig_dict: Any) -> None:
                to_html = import_module("plotly.io").to_html
                # The library itself would add megabytes to each preview.
                html = to_html(fig_dict, include_plotlyjs="cdn", full_html=True, validate=False)
                preview({"type": "html", "data": html})

        module.renderers["oomol"] = PreviewRenderer()
        module.renderers.default = "oomol"


def _prepared(
    name: str, path: Sequence[str] | None, prepare: Callable[[Any], None]
) -> ModuleSpec | None:
    spec = PathFinder.find_spec(name, path)
    if spec is None or spec.loader is None:
        return None
    execute = spec.loader.exec_module

    def execute_and_prepare(module: ModuleType) -> None:
        execute(module)
        prepare(module)

    spec.loader.exec_module = execute_and_prepare  # type: ignore[method-assign]
    return spec


def _make_backend(name: str, preview: Preview) -> ModuleType:
    """A matplotlib backend that draws as Agg does and shows by preview."""
    figures: Any = import_module("matplotlib._pylab_helpers").Gcf
    bases: Any = import_module("matplotlib.backend_bases")
    agg: Any = import_module("matplotlib.backends.backend_agg")

    def show_all(*args: Any, **options: Any) -> None:
        for manager in figures.get_all_fig_managers():
            manager.show()
        # As when the windows are closed: the next show() shows what is drawn from here on.
        figures.destroy_all()

    class FigureManager(bases.FigureManagerBase):  # type: ignore[misc]
        def show(self) -> None:
            preview(self.canvas.figure)

        @classmethod
        def pyplot_show(cls, *, block: bool | None = None) -> None:
            show_all()

    class FigureCanvas(agg.FigureCanvasAgg):  # type: ignore[misc]
        manager_class = FigureManager

    backend: Any = ModuleType(name)
    backend.FigureCanvas = FigureCanvas
    backend.FigureManager = FigureManager
    backend.show = show_all
    return backend  # type: ignore[no-any-return]
