"""The Python API of Mooncake's Transfer Engine, on this engine.

Use it in place of `mooncake.engine`:

    from transfer_engine.mooncake import TransferEngine

or, for programs that import `mooncake.engine` themselves, before they do so:

    import transfer_engine.mooncake
    transfer_engine.mooncake.install()

docs/migrating.md says what differs. Peers speak this engine's protocol, so all of them have
to use this package.
"""
import importlib
import importlib.machinery
import importlib.util
import sys
import types

from . import engine
from .engine import (SUPPORT_CUDA, SUPPORT_EFA, SUPPORT_HIP, SUPPORT_INTRA_NVLINK, SUPPORT_MNNVL,
                     SUPPORT_MUSA, Read, TransferEngine, TransferNotify, TransferOpcode, Write)

__all__ = ["SUPPORT_CUDA", "SUPPORT_EFA", "SUPPORT_HIP", "SUPPORT_INTRA_NVLINK", "SUPPORT_MNNVL",
           "SUPPORT_MUSA", "Read", "TransferEngine", "TransferNotify", "TransferOpcode", "Write",
           "install"]


def install() -> None:
    """Lets `import mooncake.engine` find this package, whether or not Mooncake is installed.

    Other modules of an installed Mooncake stay as they are. What was imported from
    `mooncake.engine` before keeps its meaning. May be called again.
    """
    sys.modules["mooncake.engine"] = engine
    _package().engine = engine  # type: ignore[attr-defined]


def _package() -> types.ModuleType:
    """The package `mooncake`: the installed one, or an empty one if there is none that works."""
    try:
        return importlib.import_module("mooncake")
    except ImportError:
        sys.modules.pop("mooncake", None)
    found = importlib.util.find_spec("mooncake")
    spec = importlib.machinery.ModuleSpec("mooncake", None, is_package=True)
    if found is not None:
        spec.submodule_search_locations = found.submodule_search_locations
    package = importlib.util.module_from_spec(spec)
    sys.modules["mooncake"] = package
    return package
