"""The file `world`: where each target's memory is now. world.h has the layout."""
import mmap
import os
import struct

BUFFERS = 3
FRAGILE, ALLOCATED = 1, 2
WORDS = 2 + 2 * BUFFERS  # pid, run, addresses, epochs: one 64-bit number each


class World:
    def __init__(self, folder, targets):
        path = os.path.join(folder, "world")
        with open(path, "wb") as file:
            file.write(bytes(targets * WORDS * 8))
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)

    def _get(self, target, word):
        return struct.unpack_from("Q", self.memory, (target * WORDS + word) * 8)[0]

    def _set(self, target, word, value):
        struct.pack_into("Q", self.memory, (target * WORDS + word) * 8, value)

    def started(self, target, pid, addresses):
        for buffer, address in enumerate(addresses):
            self._set(target, 2 + buffer, address)
        self._set(target, 1, self._get(target, 1) + 1)
        self._set(target, 0, pid)

    def ended(self, target):
        self._set(target, 0, 0)

    def may_lose(self, target, buffer):
        """Content may get lost from now on, until `whole`."""
        word = 2 + BUFFERS + buffer
        self._set(target, word, self._get(target, word) | 1)

    def whole(self, target, buffer):
        word = 2 + BUFFERS + buffer
        value = self._get(target, word)
        self._set(target, word, value + value % 2)
