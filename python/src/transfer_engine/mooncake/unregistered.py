"""Transfers from and to memory that is not registered: through a registered buffer.

Such memory is not registered for the time of the transfer, because that would make a registration
by the program fail meanwhile, or a second transfer of an overlapping range.
"""
from __future__ import annotations

import ctypes
import errno
import itertools
import os
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import transfer_engine as te

# Bytes that are copied at once.
PART = 64 << 20

_libc = ctypes.CDLL(None, use_errno=True)


class _Range(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def copy(destination: int, source: int, length: int) -> None:
    """Copies between addresses. Raises OSError if they cannot be accessed: the kernel copies."""
    while length > 0:
        here, there = _Range(source, length), _Range(destination, length)
        copied = _libc.process_vm_writev(os.getpid(), ctypes.byref(here), ctypes.c_ulong(1),
                                         ctypes.byref(there), ctypes.c_ulong(1), ctypes.c_ulong(0))
        if copied <= 0:
            code = ctypes.get_errno()
            if code in (errno.ENOSYS, errno.EPERM):  # forbidden here: a plain copy
                ctypes.memmove(destination, source, length)
                return
            raise OSError(code, f"{length} bytes cannot be copied from {source:#x} to "
                                f"{destination:#x}: {os.strerror(code)}")
        source, destination, length = source + copied, destination + copied, length - copied


def copy_in(destination: int, data: bytes, length: int) -> None:
    """Copies the first bytes of `data` to an address."""
    address = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value
    copy(destination, address or 0, length)


def copy_out(source: int, length: int) -> bytes:
    """The bytes at an address."""
    data = bytearray(length)
    if length > 0:
        copy(ctypes.addressof(ctypes.c_char.from_buffer(data)), source, length)
    return bytes(data)


def _move(engine: te.Engine, segment: te.Segment, write: bool, sources: Sequence[int],
          targets: Sequence[int], lengths: Sequence[int], options: dict[str, Any]) -> None:
    """Moves all ranges; raises what a registered transfer raises, or OSError."""
    end = time.monotonic() + options.pop("timeout")
    submit = segment.write if write else segment.read
    buffer = engine.allocate(max(1, min(PART, sum(lengths))), access=te.Access.NONE)
    try:
        parts = _parts(sources, targets, lengths)
        following = next(parts, None)
        while following is not None:
            part, following = following, next(parts, None)
            places = list(itertools.accumulate((length for *_, length in part[:-1]),
                                               initial=buffer.address))
            if write:
                for place, (source, _, length) in zip(places, part):
                    copy(place, source, length)
            submit(places, [target for _, target, _ in part], [length for *_, length in part],
                   timeout=max(0.0, end - time.monotonic()),
                   **(options if following is None else {})).wait()
            if not write:
                for place, (source, _, length) in zip(places, part):
                    copy(source, place, length)
    finally:
        buffer.free()


def _parts(sources: Sequence[int], targets: Sequence[int],
           lengths: Sequence[int]) -> Iterator[list[tuple[int, int, int]]]:
    """Lists of ranges with at most PART bytes together; cuts ranges to fill them."""
    part: list[tuple[int, int, int]] = []
    room = PART
    for source, target, length in zip(sources, targets, lengths):
        while length > 0:
            size = min(length, room)
            part.append((source, target, size))
            source, target, length, room = source + size, target + size, length - size, room - size
            if room == 0:
                yield part
                part, room = [], PART
    if part:
        yield part


class Transfer:
    """A transfer on a thread of its own, with the methods of te.Transfer that the caller needs.

    `options`: those of Segment.write(). The notification goes with the last part.
    """

    def __init__(self, engine: te.Engine, segment: te.Segment, write: bool, sources: Sequence[int],
                 targets: Sequence[int], lengths: Sequence[int], options: dict[str, Any]) -> None:
        self.error: Exception | None = None
        self._ended = threading.Event()
        arguments = engine, segment, write, sources, targets, lengths, options
        thread = threading.Thread(target=self._run, args=arguments, name="te-mooncake", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads
            self.error = OSError(errno.EAGAIN, str(error))
            self._ended.set()

    def _run(self, *arguments: Any) -> None:
        try:
            _move(*arguments)
        except Exception as error:  # wait() raises it
            self.error = error
        finally:
            self._ended.set()

    def done(self) -> bool:
        return self._ended.is_set()

    def wait(self) -> None:
        self._ended.wait()
        if self.error is not None:
            raise self.error
