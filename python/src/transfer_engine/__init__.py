"""Transfer Engine: moves byte ranges between the registered memory of processes.

One process reads or writes the memory of another, whose application does nothing meanwhile.
docs/python.md in the repository is the guide. Lengths and offsets are in bytes, times in seconds.
"""
import atexit as _atexit

from ._errors import (
    AlreadyExistsError,
    BusyError,
    Code,
    InternalError,
    InvalidArgumentError,
    NoSpaceError,
    NotFoundError,
    OutOfRangeError,
    PermissionDeniedError,
    ProtocolError,
    ResourceError,
    StaleError,
    TransferCancelledError,
    TransferEngineError,
    TransferTimeoutError,
    UnavailableError,
    UnsupportedError,
)
from ._native import (
    Access,
    Addressing,
    BlockList,
    DeviceLoad,
    Engine,
    HugePages,
    LogLevel,
    Memory,
    Notification,
    PathInfo,
    PreparedList,
    ProbeResult,
    Registration,
    Segment,
    SegmentBuffer,
    SegmentInfo,
    Transfer,
    TransportInfo,
    __version__,
    _close_all,
    info,
    set_log_level,
)

__all__ = [
    "Access", "Addressing", "AlreadyExistsError", "BlockList", "BusyError", "Code", "DeviceLoad",
    "Engine", "HugePages", "InternalError", "InvalidArgumentError", "LogLevel", "Memory",
    "NoSpaceError", "NotFoundError", "Notification", "OutOfRangeError", "PathInfo",
    "PermissionDeniedError", "PreparedList", "ProbeResult", "ProtocolError", "Registration",
    "ResourceError", "Segment", "SegmentBuffer", "SegmentInfo", "StaleError", "Transfer",
    "TransferCancelledError", "TransferEngineError", "TransferTimeoutError", "TransportInfo",
    "UnavailableError", "UnsupportedError", "__version__", "info",
    "set_log_level",
]

for _object in map(globals().get, __all__):
    if isinstance(_object, type):
        _object.__module__ = __name__
del _object

# Before the interpreter takes apart what transfers in flight still use.
_atexit.register(_close_all)
