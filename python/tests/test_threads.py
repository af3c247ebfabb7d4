"""The GIL is free while the library works, waits have limits, and Ctrl-C interrupts them."""
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

import transfer_engine as te
from conftest import HERE

numpy = pytest.importorskip("numpy")
SIZE = 64 << 20


def clocks():
    """Nanoseconds: of the wall, in which this thread ran, and in which it was ready to run."""
    with open(f"/proc/self/task/{threading.get_native_id()}/schedstat", encoding="ascii") as file:
        ran, ready, _ = file.read().split()
    return time.monotonic_ns(), int(ran), int(ready)


class Counter:
    """A thread that counts, and the share of the time in which it could count.

    It waits for nothing but the GIL. So of the wall time, what it neither ran nor was ready to run
    (/proc: schedstat) it waited for the GIL. A busy machine does not change that share.
    """

    def __init__(self):
        self.count = 0
        self._stop = False
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        begin = clocks()
        while not self._stop:
            self.count += 1
        wall, ran, ready = (end - start for end, start in zip(clocks(), begin))
        self.share = min(1.0, (ran + ready) / wall)

    def __enter__(self):
        self._thread.start()
        while self.count == 0:
            time.sleep(0.001)
        return self

    def __exit__(self, *_):
        self._stop = True
        self._thread.join()


def longest_stop(work):
    """The longest time, in seconds, that another thread waited for the GIL while `work` ran.

    It sleeps and wakes, and then wants the GIL. What it was kept from a processor does not count.
    """
    longest, stop, pause_s = [0.0], False, 0.002

    def look():
        last = clocks()
        while not stop:
            time.sleep(pause_s)
            now = clocks()
            wall, ran, ready = (end - start for end, start in zip(now, last))
            longest.append((wall - ran - ready) / 1e9 - pause_s)
            last = now

    thread = threading.Thread(target=look)
    thread.start()
    while len(longest) == 1:
        time.sleep(pause_s)
    try:
        work()
    finally:
        stop = True
        thread.join()
    return max(longest)


def test_a_counting_thread_keeps_its_speed(tcp, start_peer):
    peer = start_peer(SIZE)
    local = numpy.ones(SIZE, numpy.uint8)
    with Counter() as counter:
        for _ in range(3):
            with tcp.register(local):
                segment = tcp.open(peer.name)
                segment.write(local).wait(60)
                segment.read(local).wait(60)
    assert counter.share >= 0.9


def test_it_would_be_noticed_if_a_call_kept_the_gil():
    def keep():
        ctypes.PyDLL(None).usleep(300_000)  # PyDLL keeps the GIL

    shares, stops = [], []
    for _ in range(3):  # where the processors are taken, less of it is seen
        with Counter() as counter:
            keep()
        shares.append(counter.share)
        stops.append(longest_stop(keep))
    assert min(shares) < 0.9 and max(stops) > 0.05


@pytest.mark.parametrize("call", ["register", "write", "read", "wait", "unregister", "allocate",
                                  "prepare", "list"])
def test_long_calls_let_other_threads_run(engine, start_peer, call):
    peer = start_peer(SIZE)
    local = numpy.ones(SIZE, numpy.uint8)
    segment = engine.open(peer.name)
    if call not in ("register", "allocate"):
        engine.register(local)
    addresses = numpy.arange(200_000, dtype=numpy.uint64) * 64
    work = {
        "register": lambda: engine.register(local),
        "write": lambda: segment.write(local),
        "read": lambda: segment.read(local),
        "wait": lambda: segment.write(local).wait(),
        "unregister": lambda: engine.unregister(local),
        "allocate": lambda: engine.allocate(SIZE).free(),
        "prepare": lambda: segment.prepare_write(addresses + local.ctypes.data, addresses, 32),
        "list": lambda: segment.write(addresses + local.ctypes.data, addresses, 32).wait(),
    }[call]
    begin = time.monotonic()
    stop_s = longest_stop(work)
    took_s = time.monotonic() - begin
    if took_s < 0.05:
        return  # too short to keep anybody out
    assert stop_s < 0.5 * took_s, f"{call} took {took_s:.3f} s, others stopped for {stop_s:.3f} s"


def test_wait_has_a_limit_and_the_transfer_goes_on(wide):
    wide.peer.freeze()
    transfer = wide.segment.write(wide.local)
    for timeout in (0, 0.05, 0.25):
        begin = time.monotonic()
        with pytest.raises(te.TransferTimeoutError, match="still in flight") as info:
            transfer.wait(timeout)
        assert timeout <= time.monotonic() - begin < timeout + 2
        assert isinstance(info.value, TimeoutError) and info.value.peer == wide.peer.name
    assert not transfer.done() and transfer.error is None
    wide.peer.go_on()
    assert transfer.wait(60) == len(wide.local)


def test_a_deadline_ends_the_transfer(wide):
    wide.peer.freeze()
    transfer = wide.segment.write(wide.local, timeout=0.1)
    with pytest.raises(te.TransferTimeoutError, match="deadline") as info:
        transfer.wait()
    assert transfer.done() and info.value.peer == wide.peer.name
    assert isinstance(transfer.error, te.TransferTimeoutError)


def test_cancel_ends_the_transfer(wide):
    wide.peer.freeze()
    transfer = wide.segment.write(wide.local)
    transfer.cancel()
    with pytest.raises(te.TransferCancelledError):
        transfer.wait(10)
    transfer.cancel()  # nothing is left to cancel


def test_many_threads_use_one_engine(engine, start_peer):
    peer = start_peer(8 << 20)
    segment = engine.open(peer.name)
    failures = []

    def work(index):
        try:
            for _ in range(50):
                local = numpy.full(1 << 16, index, numpy.uint8)
                with engine.register(local):
                    segment.write(local, index << 16).wait()
                    local[:] = 0
                    segment.read(local, index << 16).wait()
                    assert (local == index).all()
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures


def test_threads_that_wait_for_one_transfer_all_see_its_end(wide):
    for _ in range(3):
        transfer = wide.segment.write(wide.local)
        seen = []
        threads = [threading.Thread(target=lambda: seen.append(transfer.wait(60)))
                   for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert seen == [len(wide.local)] * 6


def test_close_wakes_threads_that_wait(wide):
    wide.peer.freeze()
    transfer = wide.segment.write(wide.local)
    errors = []

    def wait():
        with pytest.raises(te.TransferCancelledError) as info:
            transfer.wait()
        errors.append(info.value)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    wide.engine.close()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 3
    wide.local.append(1)  # the buffer is no longer exported


# A program that is interrupted in one call. The peer stands still by then, or never answers.
INTERRUPTED = """
import asyncio, sys
import transfer_engine as te
engine = te.Engine(host="127.0.0.1", settings={"connect_timeout_ms": 60_000})
engine.install_transport("tcp")
local = bytearray(64 << 20)
engine.register(local)
peer, silent, call = sys.argv[1:]
segment = engine.open(peer)
print("opened", flush=True)
sys.stdin.readline()
async def move():
    print("waits", flush=True)
    await segment.write(local)
if call == "wait":
    transfer = segment.write(local)
calls = {
    "wait": lambda: transfer.wait(),
    "open": lambda: engine.open(silent),
    "open again": lambda: engine.open(peer, refresh=True),
    "probe": lambda: engine.probe(silent),
    "paths_of": lambda: engine.paths_of(silent),
    "sync_segments": lambda: engine.sync_segments(),
    "describe": lambda: segment.describe(),
    "notify": lambda: segment.notify("name", b"message"),
}
try:
    if call == "await":
        asyncio.run(move())
    print("waits", flush=True)
    calls[call]()
except KeyboardInterrupt:
    print("interrupted", flush=True)
engine.close()
"""


@pytest.fixture
def silent():
    """A name that is connected to, by the kernel, and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("call", ["wait", "await", "open", "open again", "probe", "paths_of",
                                  "sync_segments", "describe", "notify"])
def test_ctrl_c_interrupts(start_peer, silent, call):
    peer = start_peer(64 << 20)
    program = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, peer.name, silent, call], cwd=HERE,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # Whoever starts the tests in the background has them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    assert program.stdout.readline() == "opened\n"
    peer.freeze()
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.stdout.readline() == "waits\n"
    time.sleep(0.2)
    begin = time.monotonic()
    os.kill(program.pid, signal.SIGINT)
    line, took_s = program.stdout.readline(), time.monotonic() - begin
    rest, errors = program.communicate(timeout=20)
    assert (program.returncode, line, rest, errors) == (0, "interrupted\n", "", "")
    assert took_s < 1
    assert time.monotonic() - begin < 3


def test_a_handler_that_raises_nothing_lets_the_call_go_on(engine, silent):
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append(engine.closed))
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    begin = time.monotonic()
    try:
        with pytest.raises(te.UnavailableError, match="answer"):
            engine.open(silent)
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [False] and time.monotonic() - begin > 1


def test_a_handler_may_close_the_engine(silent):
    engine = te.Engine(host="127.0.0.1", settings={"connect_timeout_ms": 60_000})
    before = signal.signal(signal.SIGINT, lambda *_: engine.close())
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        with pytest.raises(te.TransferCancelledError, match="closed"):
            engine.open(silent)
    finally:
        signal.signal(signal.SIGINT, before)


def test_close_ends_calls_that_wait_for_a_peer(silent):
    engine = te.Engine(host="127.0.0.1", settings={"connect_timeout_ms": 60_000})
    errors = []

    def open_it():
        with pytest.raises(te.TransferCancelledError, match="closed") as info:
            engine.open(silent)
        errors.append(info.value)

    thread = threading.Thread(target=open_it)
    thread.start()
    time.sleep(0.2)
    begin = time.monotonic()
    engine.close()
    thread.join(10)
    assert len(errors) == 1 and time.monotonic() - begin < 2
