"""For the API reference: docstrings of this house as Markdown that mkdocstrings understands."""

from __future__ import annotations

from typing import Any

import griffe

from prose import as_markdown


class HouseDocstrings(griffe.Extension):
    """Set formulas apart, and keep signs such as < and * from being taken for HTML and emphasis."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Called for each function, class and module that was read."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)

    def on_module_members(self, *, mod: Any, **_: Any) -> None:
        """Called when a file was read: `import minilm.kernels as kernels` in minilm names the folder, nothing else."""
        for name, member in list(mod.members.items()):
            if member.is_alias and member.target_path == f"{mod.path}.{name}":
                del mod.members[name]
