"""One library's throughput and latency from Python, between two processes of this host:

    PYTHON scripts/clients/wheels.py {ours,mooncake,nixl} [SECONDS]

Prints a JSON object: GB/s of WRITEs over TCP in batches of 4 KiB x 128, 64 KiB x 16 and 1 MiB x 16,
and with a third word the median time in us of one WRITE of 4 KiB by the way that the library takes
on one host.
No two blocks of a batch adjoin. After each case the target's bytes are compared. The interpreter
has the library: transfer_engine, mooncake or nixl.
"""
import json
import os
import statistics
import sys
import time

import pair

CASES = (("4 KiB x 128", 4 << 10, 128), ("64 KiB x 16", 64 << 10, 16), ("1 MiB x 16", 1 << 20, 16))
BYTES = 64 << 20


class Ours:
    """`transport`: tcp, or None for what the engine itself takes."""

    def __init__(self, memory, transport):
        import transfer_engine
        self.engine = transfer_engine.Engine(host="127.0.0.1")
        if transport:
            self.engine.install_transport(transport)
        self.engine.register(memory)
        self.memory = memory

    def name(self):
        return self.engine.local_endpoint

    def prepare(self, peer, offsets, size):
        import numpy
        write = self.engine.open(peer["name"]).write
        if len(offsets) == 1:
            block = memoryview(self.memory)[offsets[0]:offsets[0] + size]
            return lambda: write(block, offsets[0]).wait()
        there = numpy.array(offsets, numpy.uint64)
        here = there + numpy.uint64(self.memory.ctypes.data)
        return lambda: write(here, there, size).wait()


class Mooncake:
    def __init__(self, memory, transport):
        if transport:
            os.environ["MC_FORCE_TCP"] = "1"
        from mooncake.engine import TransferEngine
        self.engine = TransferEngine()
        assert self.engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
        assert self.engine.register_memory(memory.ctypes.data, memory.nbytes) == 0
        self.memory = memory

    def name(self):
        return f"127.0.0.1:{self.engine.get_rpc_port()}"

    def prepare(self, peer, offsets, size):
        here = [self.memory.ctypes.data + offset for offset in offsets]
        there = [peer["address"] + offset for offset in offsets]
        sizes = [size] * len(offsets)
        write = self.engine.batch_transfer_sync_write

        def once():
            assert write(peer["name"], here, there, sizes) == 0
        return once


class Nixl:
    def __init__(self, memory, transport):
        if transport:
            os.environ["UCX_TLS"] = "tcp,self"
        from nixl._api import nixl_agent, nixl_agent_config
        self.own = f"agent-{os.getpid()}"
        self.agent = nixl_agent(self.own, nixl_agent_config(backends=["UCX"]))
        self.agent.register_memory([(memory.ctypes.data, memory.nbytes, 0, "")], "DRAM")
        self.memory = memory

    def name(self):
        return self.agent.get_agent_metadata()

    def prepare(self, peer, offsets, size):
        import numpy
        other = self.agent.add_remote_agent(peer["name"])
        here = [(self.memory.ctypes.data + offset, size, 0) for offset in offsets]
        there = [(peer["address"] + offset, size, 0) for offset in offsets]
        local = self.agent.prep_xfer_dlist("NIXL_INIT_AGENT", here, "DRAM")
        remote = self.agent.prep_xfer_dlist(other, there, "DRAM")
        order = numpy.arange(len(offsets), dtype=numpy.int32)
        handle = self.agent.make_prepped_xfer("WRITE", local, order, remote, order)

        def once():
            state = self.agent.transfer(handle)
            while state == "PROC":
                state = self.agent.check_xfer_state(handle)
            assert state == "DONE", state
        return once


LIBRARIES = {"ours": Ours, "mooncake": Mooncake, "nixl": Nixl}


def memory_of(fill):
    import numpy
    return numpy.full(BYTES, fill, numpy.uint8)


def target(pipe):
    library, transport = pair.receive(pipe)
    memory = memory_of(0)
    side = LIBRARIES[library](memory, transport)
    pipe.send({"name": side.name(), "address": memory.ctypes.data})
    for offsets, size, fill in iter(lambda: pair.receive(pipe), None):
        pipe.send(all((memory[offset:offset + size] == fill).all() for offset in offsets))


def seconds_of(once, seconds):
    """How long each call takes, for so long."""
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        begin = time.perf_counter()
        once()
        times.append(time.perf_counter() - begin)
    return times


def measure(pipe, library, transport, cases, seconds):
    pipe.send((library, transport))
    peer = pair.receive(pipe)
    memory = memory_of(1)
    side = LIBRARIES[library](memory, transport)
    results = {}
    for number, (name, size, count) in enumerate(cases):
        offsets = [2 * size * i % (BYTES - size) for i in range(count)]
        once = side.prepare(peer, offsets, size)
        memory[:] = number + 2
        for _ in range(3):
            once()
        times = seconds_of(once, seconds)
        pipe.send((offsets, size, number + 2))
        assert pair.receive(pipe), f"{library}: {name}: what arrived differs from what was sent"
        results[name] = (statistics.median(times) * 1e6 if count == 1
                         else size * count * len(times) / sum(times) / 1e9)
    pipe.send(None)
    return results


def initiator_of(library, transport, cases, seconds):
    def initiator(pipe):
        print(json.dumps(measure(pipe, library, transport, cases, seconds)), flush=True)
    return initiator


def main():
    library = sys.argv[1]
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    one = len(sys.argv) > 3
    cases = (("one 4 KiB on this host, us", 4 << 10, 1),) if one else CASES
    pair.run(target, initiator_of(library, None if one else "tcp", cases, seconds))


if __name__ == "__main__":
    main()
