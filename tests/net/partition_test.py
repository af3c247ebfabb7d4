"""Deadlines of an initiator whose target is cut off or slow, and how soon it is used again.

partition_test.py --peer te_test_peer --library libtransfer_engine.so

The target runs in one network namespace and the initiator in another. While every packet to the
target is lost, tasks end at their deadlines; once packets get through again, READs complete soon,
not when TCP happens to try again. While the link is slow, packets wait long in its queue; still
tasks end in time. Exit status 77: skipped, as namespaces_test.py.
"""
import argparse
import ctypes
import os
import shutil
import subprocess
import sys
import time

import namespaces_test as net

TIMEOUT_MS = 300
LATE_MS = 250  # what a loaded machine adds
RECOVERY_S = 6
SIZE = 256 << 10
READ, WRITE = 0, 1
COMPLETED, TIMEOUT = 4, 5


class Request(ctypes.Structure):
    _fields_ = [("opcode", ctypes.c_int), ("source", ctypes.c_void_p),
                ("target_id", ctypes.c_int32), ("target_offset", ctypes.c_uint64),
                ("length", ctypes.c_uint64)]


class Status(ctypes.Structure):
    _fields_ = [("status", ctypes.c_int), ("transferred_bytes", ctypes.c_uint64)]


class Initiator:
    """An engine of this process, by the C API."""

    def __init__(self, library, host, segment):
        self.te = ctypes.CDLL(library)
        self.te.createTransferEngine.restype = ctypes.c_void_p
        self.te.installTransport.restype = ctypes.c_void_p
        self.te.allocateBatchID.restype = ctypes.c_uint64
        self.te.transferEngineLastError.restype = ctypes.c_char_p
        self.engine = ctypes.c_void_p(self.te.createTransferEngine(
            b"P2PHANDSHAKE", host.encode(), host.encode(), ctypes.c_uint64(0), 0))
        self.check(self.engine.value, "create")
        self.check(self.te.installTransport(self.engine, b"tcp", None), "install")
        self.memory = ctypes.create_string_buffer(SIZE)
        self.check(self.te.registerLocalMemory(self.engine, self.memory, ctypes.c_size_t(SIZE),
                                               b"*", 0) == 0, "register")
        self.segment = self.te.openSegment(self.engine, segment.encode())
        self.check(self.segment >= 0, "open")

    def check(self, good, what):
        if not good:
            raise AssertionError(f"{what}: {self.te.transferEngineLastError().decode()}")

    def move(self, opcode):
        """Moves some; its end, and by how many milliseconds it was late."""
        batch = ctypes.c_uint64(self.te.allocateBatchID(self.engine, ctypes.c_size_t(1)))
        request = Request(opcode, ctypes.addressof(self.memory), self.segment, 0, SIZE)
        begin = time.monotonic()
        self.check(self.te.submitTransferWithTimeout(self.engine, batch, ctypes.byref(request),
                                                     ctypes.c_size_t(1),
                                                     ctypes.c_uint64(TIMEOUT_MS)) == 0, "submit")
        self.check(self.te.waitBatch(self.engine, batch, ctypes.c_int64(-1)) == 0, "wait")
        late_ms = (time.monotonic() - begin) * 1000 - TIMEOUT_MS
        status = Status()
        self.check(self.te.getTransferStatus(self.engine, batch, ctypes.c_size_t(0),
                                             ctypes.byref(status)) == 0, "status")
        self.check(self.te.freeBatchID(self.engine, batch) == 0, "free")
        return status.status, late_ms


def initiate(library, host, segment):
    """Inside the initiator's namespace: does what the lines of the input say."""
    initiator = Initiator(library, host, segment)
    print("ready", flush=True)
    for line in sys.stdin:
        command, seconds = line.split()
        ends, late_ms, begin = [], 0, time.monotonic()
        while time.monotonic() - begin < float(seconds):
            end, late = initiator.move(READ if command == "read" or len(ends) % 2 else WRITE)
            ends.append(end)
            late_ms = max(late_ms, late)
            if command == "read" and end == COMPLETED:
                break
        print(f"{time.monotonic() - begin:.2f} {late_ms:.0f} {ends.count(COMPLETED)} "
              f"{ends.count(TIMEOUT)} {len(ends)}", flush=True)


def ask(initiator, command):
    initiator.stdin.write(command + "\n")
    initiator.stdin.flush()
    answer = initiator.stdout.readline().split()
    print(f"{command}: {' '.join(answer)}", flush=True)
    if len(answer) != 5:
        raise AssertionError("the initiator ended")
    return [float(part) for part in answer]


def partition(programs):
    host, own = net.ADDRESSES[4]
    with net.network(), net.process(
            *net.inside(net.NAMESPACES[0], programs.peer, "--name", host, "--host", host),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE) as target:
        segment = target.stdout.readline().split()[1]
        with net.process(
                *net.inside(net.NAMESPACES[1], sys.executable, "-B", os.path.abspath(__file__),
                            "--library", programs.library, "--host", own, "--segment", segment),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE) as initiator:
            if initiator.stdout.readline().strip() != "ready":
                raise AssertionError("the initiator did not come up")
            for outage_s in (3, 8):
                _, _, completed, _, count = ask(initiator, "both 0.5")
                if completed == 0 or completed < count / 2:
                    raise AssertionError("it does not work without an outage")
                net.set_loss(net.NAMESPACES[0], 100)
                _, late_ms, completed, timed_out, count = ask(initiator, f"both {outage_s}")
                if late_ms > LATE_MS:
                    raise AssertionError(f"a task ended {late_ms} ms after its deadline")
                if completed > 1 or completed + timed_out != count:
                    raise AssertionError("not all of them ended as TIMEOUT")
                net.set_loss(net.NAMESPACES[0], 0)
                seconds, late_ms, completed, _, _ = ask(initiator, "read 30")
                if completed != 1 or seconds > RECOVERY_S or late_ms > LATE_MS:
                    raise AssertionError(f"a READ completed {seconds} s after the outage")
            slow(initiator)


def slow(initiator):
    """Nothing completes at 1 Mbit/s; then the next goes over a new connection, again and again."""
    ask(initiator, "both 0.5")
    net.set_rate(net.NAMESPACES[1], 1)
    _, late_ms, completed, timed_out, count = ask(initiator, "both 6")
    net.set_rate(net.NAMESPACES[1], 0)
    if late_ms > LATE_MS:
        raise AssertionError(f"a task ended {late_ms} ms after its deadline")
    if timed_out < 5 or completed + timed_out != count:
        raise AssertionError("not all of them ended as TIMEOUT")
    ask(initiator, "read 30")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", required=True)
    parser.add_argument("--peer")
    parser.add_argument("--host")
    parser.add_argument("--segment")
    programs = parser.parse_args()
    if programs.segment:
        initiate(programs.library, programs.host, programs.segment)
        return 0
    missing = [tool for tool in ("ip", "nft") if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        print("SKIPPED: needs " + (" and ".join(missing) if missing else "root"))
        return net.SKIPPED
    try:
        partition(programs)
    except net.Skip as reason:
        print(f"SKIPPED: no network namespaces here: {reason}")
        return net.SKIPPED
    return 0


if __name__ == "__main__":
    sys.exit(main())
