"""The names `dp` and `lake` are generic: make sure that they are ours before any of their code runs.

An impostor `dp` would see rows and draw noise. So its location is looked up without importing it: both packages must
stand beside this one, in the same folder or the same zip file, whether or not distribution metadata came along.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import PurePath

__all__ = ["refuse_impostors"]


def refuse_impostors(names: tuple[str, ...] = ("dp", "lake")) -> None:
    """Refuse packages that do not come from this distribution.

    Raises:
        ImportError: a package of that name stands elsewhere on the path, or is missing.
    """
    home = PurePath(__file__).parent.parent
    for name in names:
        found = _location(name)
        if found is None or PurePath(found).parent.parent != home:
            remedy = "remove the other one from sys.path, or put spark-mpc before it"
            raise ImportError(f"package {name!r} is at {found}, not beside spark_mpc in {home}: {remedy}", name=name)


def _location(name: str) -> str | None:
    loaded = sys.modules.get(name)
    if loaded is not None:
        return loaded.__file__
    spec = find_spec(name)
    return None if spec is None else spec.origin


refuse_impostors()  # on import, which comes before that of dp and lake
