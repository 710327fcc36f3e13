"""OpenVINO and NNCF without what reports each use of them to their maker."""

import importlib
import sys
from types import ModuleType

REPORTS = "openvino_telemetry"  # both do without it where it is not installed


def unreported(name: str) -> ModuleType:
    """Import the package ``name`` and return it; from now on it reports nothing, for which it would not have asked.

    A package that the program itself has imported before stays as it is.
    """
    before = sys.modules.get(REPORTS)
    sys.modules[REPORTS] = None  # type: ignore[assignment]  # importing it fails
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[REPORTS]
        if before is not None:
            sys.modules[REPORTS] = before
