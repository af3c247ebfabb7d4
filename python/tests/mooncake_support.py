"""What tests of Mooncake's API share: memory, a second process with an engine, observations.

Needs nothing but the standard library, because it also runs beside Mooncake's own wheel.
"""
import ctypes
import importlib
import json
import mmap
import os
import signal
import subprocess
import sys
import time

HOST = "127.0.0.1"
P2P = "P2PHANDSHAKE"
SIZE = 1 << 16


class Memory:
    """Pages with an address, filled with a pattern that a seed determines."""

    def __init__(self, size, seed=None):
        self.size = size
        self.map = mmap.mmap(-1, max(size, mmap.PAGESIZE))
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        if seed is not None:
            self.write(pattern(size, seed))

    def write(self, data, offset=0):
        self.map[offset:offset + len(data)] = data

    def read(self, offset=0, size=None):
        size = self.size - offset if size is None else size
        return self.map[offset:offset + size]


def pattern(size, seed):
    block = bytes((i * 7 + seed * 31 + (i >> 8)) & 255 for i in range(65521))
    return (block * (size // len(block) + 1))[:size]


def session(host, port):
    """As LMCache, lmdeploy and checkpoint-engine write it: without brackets."""
    return f"{host}:{port}"


def state(stat):
    """The letter after the name, of a file such as /proc/1/stat."""
    with open(stat, encoding="utf-8") as file:
        return file.read().rpartition(") ")[2][0]


class Peer:
    """Starts the process, creates its engine and, unless told otherwise, registers its memory."""

    def __init__(self, module, host="127.0.0.1", size=1 << 16, seed=None, register=True):
        self.process = subprocess.Popen(
            [sys.executable, __file__, module], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started = self.command("start", host=host, size=size, seed=seed, register=register)
        self.host, self.port, self.address = host, started["port"], started["address"]
        self.started = started
        self.session = session(host, self.port)

    def command(self, name, **arguments):
        self.process.stdin.write(json.dumps([name, arguments]).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer ended during {name}: {self.process.wait()}")
        return json.loads(line)

    def call(self, method, *arguments):
        """What the method of the peer's engine returns."""
        return self.command("call", method=method, arguments=arguments)

    def read(self, offset=0, size=None):
        return bytes.fromhex(self.command("read", offset=offset, size=size))

    def notifies(self):
        return [tuple(pair) for pair in self.command("notifies")]

    def stop(self):
        """Returns once no thread of it runs."""
        os.kill(self.process.pid, signal.SIGSTOP)
        tasks = f"/proc/{self.process.pid}/task"
        while any(state(f"{tasks}/{task}/stat") != "T" for task in os.listdir(tasks)):
            time.sleep(0.001)

    def go_on(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.process.stdin.close()
        self.process.stdout.close()


class See:
    """Takes observations down as they are made."""

    def __init__(self, write):
        self.write = write

    def __call__(self, label, value):
        self.write(label, value)
        return value

    def call(self, label, function, *arguments, **named):
        """The result, or the name of the exception."""
        try:
            value = function(*arguments, **named)
        except Exception as error:  # which one is the observation
            value = type(error).__name__
        return self(label, value)

    def sign(self, label, function, *arguments, **named):
        """Of a count, port or address: whether there is one."""
        try:
            value = function(*arguments, **named)
            value = "positive" if value > 0 else "zero" if value == 0 else "negative"
        except Exception as error:
            value = type(error).__name__
        return self(label, value)

    def bytes(self, label, function, *arguments):
        """Bytes, in hexadecimal digits."""
        return self.call(label, lambda: function(*arguments).hex())

    def id(self, label, function, *arguments, **named):
        """Returns the id; observes whether it is one that clients accept."""
        value = function(*arguments, **named)
        self(label, "an id" if 0 < value < 1 << 63 else value)
        return value


def engine(te, host=HOST, protocol="tcp"):
    made = te.TransferEngine()
    if made.initialize(host, P2P, protocol, "") != 0:
        raise RuntimeError("initialize failed")
    return made


def engine_and_source(te):
    """An engine, and memory that it has registered."""
    made, source = engine(te), Memory(SIZE, 1)
    made.register_memory(source.address, SIZE)
    return made, source


def poll(made, batch_id, seconds=10):
    """What clients do: transfer_check_status() until it is not 0."""
    end = time.monotonic() + seconds
    status = 0
    while status == 0 and time.monotonic() < end:
        status = made.transfer_check_status(batch_id)
        time.sleep(0.001)
    return status


def transfers_once(see, te, made):
    source = Memory(SIZE, 1)
    with Peer(te.__name__, seed=2) as peer:
        see.call("register", made.register_memory, source.address, SIZE)
        see.call("write", made.transfer_sync_write, peer.session, source.address, peer.address,
                 4096)
        see("written", peer.read(0, 4096) == pattern(SIZE, 1)[:4096])
        see("the rest", peer.read(4096) == pattern(SIZE, 2)[4096:])
        see.call("read", made.transfer_sync_read, peer.session, source.address + 8192,
                 peer.address + 8192, 4096)
        see("read bytes", source.read(8192, 4096) == pattern(SIZE, 2)[8192:12288])


class Served:
    """The peer's side of Peer.command()."""

    def __init__(self, module):
        self.module = module

    def start(self, host, size, seed, register):
        self.memory = Memory(size, seed)
        self.engine = self.module.TransferEngine()
        result = self.engine.initialize(host, "P2PHANDSHAKE", "tcp", "")
        if result == 0 and register:
            result = self.engine.register_memory(self.memory.address, size)
        return {"result": result, "port": self.engine.get_rpc_port() if result == 0 else 0,
                "address": self.memory.address}

    def call(self, method, arguments):
        return getattr(self.engine, method)(*arguments)

    def read(self, offset, size):
        return self.memory.read(offset, size).hex()

    def notifies(self):
        return [(n.name, n.msg) for n in self.engine.get_notifies()]


def serve(module):
    """Reads commands until the other end closes; ends without destructors, some of which hang."""
    served = Served(module)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        print(json.dumps(getattr(served, name)(**arguments)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    serve(importlib.import_module(sys.argv[1]))
