"""The exceptions: one class per code of the library, all of them TransferEngineError."""
from __future__ import annotations

import enum
from typing import Optional


class Code(enum.IntEnum):
    """Why a call or a transfer failed. The numbers are those of the C API."""

    OK = 0
    INVALID_ARGUMENT = -1
    NOT_FOUND = -2
    ALREADY_EXISTS = -3
    OUT_OF_RANGE = -4
    PERMISSION = -5
    UNAVAILABLE = -6
    TIMEOUT = -7
    CANCELLED = -8
    STALE = -9
    BUSY = -10
    UNSUPPORTED = -11
    PROTOCOL = -12
    NO_SPACE = -13
    RESOURCE = -14
    INTERNAL = -15


class TransferEngineError(Exception):
    """The base of all errors of this package.

    message: what went wrong, where, and what to do, as the library says it.
    peer: the name of the segment that the call was about; None if there was none.
    address: of the local memory that it was about; None if there was none.
    """

    code: Code = Code.INTERNAL
    hint: str = ""  #: what usually helps against errors of this code

    def __init__(self, message: str, peer: Optional[str] = None, address: Optional[int] = None):
        super().__init__(message)
        self.message = message
        self.peer = peer
        self.address = address

    def __str__(self) -> str:
        about = []
        if self.peer is not None and self.peer not in self.message:
            about.append(f"segment '{self.peer}'")
        if self.address is not None and f"{self.address:#x}" not in self.message:
            about.append(f"local address {self.address:#x}")
        return self.message + (f" ({', '.join(about)})" if about else "")

    def __reduce__(self):
        return type(self), (self.message, self.peer, self.address)


class InvalidArgumentError(TransferEngineError, ValueError):
    """A wrong argument; nothing was started."""

    code = Code.INVALID_ARGUMENT
    hint = "correct the argument that the message names"


class NotFoundError(TransferEngineError, LookupError):
    """There is no such segment, buffer or transport."""

    code = Code.NOT_FOUND
    hint = "check the name or the address; open segments and register memory before their use"


class AlreadyExistsError(TransferEngineError, ValueError):
    """A name, a port or a range of memory is taken."""

    code = Code.ALREADY_EXISTS
    hint = "choose another name, or unregister what is there"


class OutOfRangeError(TransferEngineError, IndexError):
    """A range leaves its buffer."""

    code = Code.OUT_OF_RANGE
    hint = "stay inside the memory; Segment.describe() lists the buffers of the target"


class PermissionDeniedError(TransferEngineError, PermissionError):
    """The target, or the memory, does not allow it."""

    code = Code.PERMISSION
    hint = ("register the memory with the access that the transfer needs, or let the peer's "
            "tls_policy allow it, at the side that the message names")


class UnavailableError(TransferEngineError, ConnectionError):
    """A peer or a metadata server cannot be reached, or was lost."""

    code = Code.UNAVAILABLE
    hint = "check that the peer or the metadata server runs, and that its port is reachable"


class TransferTimeoutError(TransferEngineError, TimeoutError):
    """The deadline passed first."""

    code = Code.TIMEOUT
    hint = "allow more time, or look at Engine.paths() for what is slow"


class TransferCancelledError(TransferEngineError):
    """It was cancelled by the caller, or because the engine was closed."""

    code = Code.CANCELLED
    hint = "submit it again if it is still wanted"


class StaleError(TransferEngineError, ConnectionError):
    """The peer restarted, or its buffer is gone."""

    code = Code.STALE
    hint = "wait until the peer has registered its memory again, then repeat the transfer"


class BusyError(TransferEngineError):
    """In use, or a limit is reached."""

    code = Code.BUSY
    hint = "try again later"


class UnsupportedError(TransferEngineError, NotImplementedError):
    """Not on this machine, not in this build, or not in a forked child."""

    code = Code.UNSUPPORTED
    hint = "`te info` shows what this machine has; in a forked child create a new engine"


class ProtocolError(TransferEngineError, ConnectionError):
    """A peer or a server broke its protocol."""

    code = Code.PROTOCOL
    hint = "check that the address belongs to an engine of a compatible version"


class NoSpaceError(TransferEngineError):
    """A caller's buffer is too small."""

    code = Code.NO_SPACE
    hint = "give a larger buffer"


class ResourceError(TransferEngineError, OSError):
    """The operating system refused memory, descriptors, threads or a port."""

    code = Code.RESOURCE
    hint = "raise the limit that the message names"


class InternalError(TransferEngineError, RuntimeError):
    """A defect of the library."""

    code = Code.INTERNAL
    hint = "please report it, with the message"


CLASSES = {
    int(cls.code): cls
    for cls in (
        InvalidArgumentError, NotFoundError, AlreadyExistsError, OutOfRangeError,
        PermissionDeniedError, UnavailableError, TransferTimeoutError, TransferCancelledError,
        StaleError, BusyError, UnsupportedError, ProtocolError, NoSpaceError, ResourceError,
        InternalError,
    )
}
