"""Awaiting transfers: a reader per engine and event loop, on the engine's completion descriptor."""
from __future__ import annotations

import asyncio
import os


class _Reader:
    """A loop that awaits transfers of an engine, how many, and its copy of the descriptor."""

    def __init__(self, loop, fd):
        self.loop = loop
        self.fd = fd
        self.awaited = 0


class Waiters:
    """The transfers of one engine that are awaited, by the numbers of their batches."""

    def __init__(self, engine):
        self._engine = engine
        self._futures: dict[int, list[asyncio.Future]] = {}
        self._readers: dict[int, _Reader] = {}

    def add(self, batch: int) -> asyncio.Future:
        loop = asyncio.get_running_loop()
        reader = self._readers.get(id(loop))
        if reader is None:
            # A copy, so that it stays open until this loop lets go of it.
            reader = _Reader(loop, os.dup(self._engine._completion_fd()))
            try:
                loop.add_reader(reader.fd, self._take)
            except BaseException:
                os.close(reader.fd)
                raise
            self._readers[id(loop)] = reader
        reader.awaited += 1
        future = loop.create_future()
        self._futures.setdefault(batch, []).append(future)
        return future

    def remove(self, batch: int, future: asyncio.Future) -> None:
        futures = self._futures.get(batch)
        if futures is not None and future in futures:
            futures.remove(future)
            if not futures:
                del self._futures[batch]
        loop = future.get_loop()
        reader = self._readers[id(loop)]
        reader.awaited -= 1
        if reader.awaited == 0:
            del self._readers[id(loop)]
            if not loop.is_closed():
                loop.remove_reader(reader.fd)
            os.close(reader.fd)

    def ended(self, batch: int) -> None:
        """The transfer is done, as this thread found out."""
        for future in self._futures.pop(batch, ()):
            loop = future.get_loop()
            if loop is _running_loop():
                _resolve(future)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, future)

    def _take(self) -> None:
        for batch in self._engine._take_completions():
            self.ended(batch)


def _running_loop():
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _resolve(future: asyncio.Future) -> None:
    if not future.done():
        future.set_result(None)


def await_transfer(transfer):
    """The iterator of `await transfer`."""
    while not transfer.done():
        waiters = transfer._waiters
        batch = transfer._batch
        transfer._set_awaited()
        future = waiters.add(batch)
        try:
            # It may have ended before the queue was looked at.
            if not transfer.done():
                yield from future
        except asyncio.CancelledError:
            transfer.cancel()
            raise
        finally:
            waiters.remove(batch, future)
    return transfer.wait()
