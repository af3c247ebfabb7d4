"""Nothing crashes or leaks: cycles, dropped objects, exceptions, the interpreter's end, forks.

Programs that must end well run in processes of their own; nanobind reports there what was leaked.
"""
import ctypes
import gc
import hashlib
import os
import pickle
import signal
import subprocess
import sys
import time
import weakref

import pytest

import transfer_engine as te
from conftest import HERE, run_python

#: Two engines of one process with memory of both, and a segment: the beginning of most programs.
PAIR = """
import gc, os, sys, threading, time
import transfer_engine as te
te._native._warn_of_leaks()
SIZE = 1 << 20
target = te.Engine(host="127.0.0.1")
engine = te.Engine(host="127.0.0.1")
engine.install_transport("tcp")
memory, local = bytearray(SIZE), bytearray(b"v" * SIZE)
target.register(memory)
engine.register(local)
segment = engine.open(target.local_endpoint)
"""


def ends_well(code, *arguments, expect="", **options):
    result = run_python(PAIR + code, *arguments, cwd=HERE, **options)
    assert (result.returncode, result.stdout, result.stderr) == (0, expect, "")


def resident_kib():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * (os.sysconf("SC_PAGESIZE") // 1024)


class Payload(bytearray):
    """A buffer that can be in a cycle, and of which one sees when it goes."""


@pytest.fixture
def pair(target, engine):
    memory = bytearray(1 << 20)
    target.register(memory)
    return engine, engine.open(target.local_endpoint), memory


def test_a_registration_keeps_its_object(pair):
    engine, segment, memory = pair
    payload = Payload(b"k" * 4096)
    gone = weakref.ref(payload)
    engine.register(payload)
    with pytest.raises(BufferError):
        payload.append(1)
    address = ctypes.addressof((ctypes.c_char * 4096).from_buffer(payload))
    del payload
    gc.collect()
    assert gone() is not None
    segment.write(address, 0, 4096).wait()
    assert memory[:4096] == b"k" * 4096
    engine.unregister(address)
    gc.collect()
    assert gone() is None


def test_counted_registrations_keep_it_as_often(pair):
    engine, _, _ = pair
    payload = Payload(4096)
    first, second = engine.register(payload), engine.register(payload)
    first.unregister()
    first.unregister()  # again: nothing
    with pytest.raises(BufferError):
        payload.append(1)
    engine.unregister(second)
    payload.append(1)
    with pytest.raises(te.NotFoundError):
        engine.unregister(second.address)


def test_a_transfer_keeps_its_memory_until_it_is_done(tcp, start_peer):
    peer = start_peer(64 << 20)
    payload = Payload(64 << 20)
    gone = weakref.ref(payload)
    address = tcp.register(payload).address
    segment = tcp.open(peer.name)
    peer.freeze()
    transfer = segment.write(payload)
    del payload
    assert not transfer.done() and gone() is not None
    peer.process.send_signal(signal.SIGCONT)
    transfer.wait(60)
    tcp.unregister(address)
    gc.collect()
    assert gone() is None
    assert transfer.done() and transfer.bytes == 64 << 20


def test_a_dropped_transfer_goes_on_and_lets_go_of_its_memory(tcp, start_peer):
    peer = start_peer(1 << 20)
    segment = tcp.open(peer.name)
    payload = Payload(b"d" * (1 << 20))
    gone = weakref.ref(payload)
    address = tcp.register(payload).address
    segment.write(payload)  # nobody keeps it
    del payload
    assert gone() is not None
    until = time.monotonic() + 20
    while peer.ask("sum") != hashlib.sha256(b"d" * (1 << 20)).hexdigest():
        assert time.monotonic() < until
    tcp.unregister(address)
    # The engine lets go of dropped transfers that have ended while others start.
    small = bytearray(64)
    tcp.register(small)
    for _ in range(200):
        segment.write(small)
    segment.write(small).wait()
    gc.collect()
    assert gone() is None


def test_cycles_are_collected(target):
    memory = bytearray(4096)
    target.register(memory)
    seen = []
    for _ in range(3):
        engine = te.Engine(host="127.0.0.1")
        payload = Payload(4096)
        segment = engine.open(target.local_endpoint)
        transfer_memory = Payload(4096)
        engine.register(transfer_memory)
        transfer = segment.write(transfer_memory)
        # Engine -> registered object -> each of these -> Engine.
        own = engine.register(payload)
        prepared = segment.prepare_write([own.address], [0], [64])
        payload.cycle = [engine, segment, transfer, own, engine.allocate(4096), prepared]
        transfer_memory.cycle = transfer
        seen += [weakref.ref(engine), weakref.ref(payload), weakref.ref(transfer_memory)]
        transfer.wait()
        del engine, payload, segment, transfer_memory, transfer, own, prepared
    gc.collect()
    gc.collect()
    assert [each() for each in seen] == [None] * len(seen)


def test_repetition_does_not_grow(pair):
    engine, segment, _ = pair
    local = bytearray(4096)
    engine.register(local)

    def once():
        for _ in range(200):
            segment.write(local).wait()
            segment.write(memoryview(local)[:64])
        with pytest.raises(te.TransferEngineError):
            segment.write(bytearray(64))  # not registered
        with pytest.raises(te.InvalidArgumentError):
            segment.write(object())
        with pytest.raises(te.InvalidArgumentError):
            segment.write([1, 2], [3], 4)
        with pytest.raises(te.TransferEngineError):
            segment.read(local, 1 << 40, timeout=0).wait()
        with engine.register(bytearray(1 << 16)):
            pass
        engine.allocate(1 << 16).free()
        engine.open(segment.name).close()
        te.BlockList([(1, 2, 3)], [1], [2])
        segment.describe(), engine.paths(), engine.device_loads(), engine.transports()
        engine.take_notifications(), engine.effective_config()

    for _ in range(10):
        once()
    gc.collect()
    before, objects = resident_kib(), len(gc.get_objects())
    for _ in range(60):
        once()
    gc.collect()
    assert len(gc.get_objects()) <= objects + 50
    assert resident_kib() <= before + 4096


def test_engines_are_not_pickled(pair):
    for each in pair[:2]:
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(each)


def test_engines_come_and_go():
    def once():
        with te.Engine(host="127.0.0.1") as engine, te.Engine(host="127.0.0.1") as target:
            memory, local = bytearray(4096), bytearray(4096)
            target.register(memory)
            engine.register(local)
            engine.open(target.local_endpoint).write(local).wait()

    for _ in range(3):
        once()
    before = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    for _ in range(10):
        once()
    assert len(os.listdir("/proc/self/fd")) <= before[0]
    assert len(os.listdir("/proc/self/task")) <= before[1] + 2


def test_close_is_repeatable_and_refuses_what_comes_after(pair):
    engine, segment, _ = pair
    local = bytearray(4096)
    registration = engine.register(local)
    engine.close()
    engine.close()
    assert engine.closed
    local.append(1)
    for call in (lambda: segment.write(local), lambda: engine.register(local), engine.paths,
                 lambda: engine.open("x"), lambda: engine.local_endpoint, segment.describe,
                 lambda: engine.allocate(1), engine.take_notifications):
        with pytest.raises(te.TransferCancelledError, match="closed"):
            call()
    registration.unregister()
    segment.close()


@pytest.mark.parametrize("held", ["in globals", "in a cycle", "in a list of a module", "closed"])
def test_the_interpreter_ends_during_transfers(held):
    ends_well("""
import signal
transfers = [segment.write(local) for _ in range(50)]
held = sys.argv[1]
if held == "in a cycle":
    cycle = [engine, segment, transfers]
    cycle.append(cycle)
elif held == "in a list of a module":
    os.kept = [engine, segment, transfers]
elif held == "closed":
    engine.close()
""", held)


def test_the_interpreter_ends_while_a_daemon_thread_waits(start_peer):
    peer = start_peer(64 << 20)
    result = run_python("""
import sys, threading, time
import transfer_engine as te
def work():
    global engine
    engine = te.Engine(host="127.0.0.1")
    engine.install_transport("tcp")
    local = bytearray(64 << 20)
    engine.register(local)
    segment = engine.open(sys.argv[1])
    print("opened", flush=True)
    sys.stdin.readline()
    transfer = segment.write(local)
    while True:
        try:
            transfer.wait(0.01)
        except te.TransferTimeoutError:
            pass
thread = threading.Thread(target=work, daemon=True)
thread.start()
time.sleep(0.7)
""", peer.name, cwd=HERE, input="\n")
    assert (result.returncode, result.stderr) == (0, "")


def test_an_uncaught_exception_ends_a_program_cleanly():
    result = run_python(PAIR + "segment.write(local)\nraise ValueError('mine')\n", cwd=HERE)
    assert result.returncode == 1
    assert result.stderr.strip().endswith("ValueError: mine")
    assert "nanobind" not in result.stderr


def test_every_call_leaves_nothing_behind():
    ends_well("""
import asyncio
other = engine.allocate(4096)
view = memoryview(other)
own = engine.local_segment
async def move():
    await asyncio.gather(*(segment.write(local) for _ in range(10)))
asyncio.run(move())
address = engine.register(local).address
transfer = segment.write([address], [0], 64, notification=("name", b"message"))
transfer.wait(), transfer.error, transfer.bytes, repr(segment), repr(segment.describe())
segment.read(segment.prepare_read(te.BlockList([(address, 0, 64)], [0, 1], [1, 2]))).wait()
kept = [engine.paths(), engine.paths_of(segment.name), engine.transports(), engine.topology(),
        engine.device_loads(), engine.effective_config(), engine.nic_priority_matrix(),
        target.take_notifications(), engine.probe(segment.name, 2), te.info(), own.describe()]
repr(kept)
for wrong in (lambda: segment.write(None), lambda: segment.write(b"x"), lambda: engine.open("::"),
              lambda: engine.unregister(5), lambda: segment.write([1], [2], [3, 4]),
              lambda: segment.read(b"x"), other.free, lambda: te.Engine(port=engine.port),
              lambda: segment.write(local, 1 << 40).wait(), lambda: engine.open(5)):
    try:
        wrong()
        raise SystemExit("no error")
    except (te.TransferEngineError, TypeError) as error:
        kept.append(error)
""")


def test_a_failed_constructor_leaves_nothing():
    ends_well("""
for _ in range(5):
    try:
        te.Engine(host="192.0.2.1")
    except te.TransferEngineError as error:
        kept = error
    try:
        te.Engine(settings={"no_such_setting": 1})
    except te.InvalidArgumentError as error:
        kept = error
""")


def test_fork_leaves_the_engine_to_the_parent():
    ends_well("""
transfer = segment.write(local)
child = os.fork()
if child == 0:
    for call in (lambda: segment.write(local), transfer.wait, lambda: engine.open("x"),
                 lambda: engine.register(bytearray(8)), segment.describe):
        try:
            call()
            os._exit(2)
        except te.UnsupportedError as error:
            assert "process" in str(error), error
    engine.close()
    del transfer, segment, engine, target
    gc.collect()
    with te.Engine(host="127.0.0.1") as own:
        own.register(local)
        own.local_segment.write(local).wait()
    sys.exit(0)  # with all that an interpreter does at its end
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
transfer.wait()
assert memory == local
segment.write(local).wait()
""")


def test_fork_while_another_thread_is_in_a_call():
    ends_well("""
stop = False
def work():
    while not stop:
        segment.write(local).wait()
thread = threading.Thread(target=work)
thread.start()
for _ in range(10):
    child = os.fork()
    if child == 0:
        engine.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop = True
thread.join()
""")


def test_a_forked_child_is_terminated():
    ends_well("""
import signal
transfer = segment.write(local)
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
os.kill(child, signal.SIGTERM)
os.waitpid(child, 0)
transfer.wait()
segment.write(local).wait()
""")


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_multiprocessing(tmp_path, method):
    program = tmp_path / "program.py"
    program.write_text("""
import multiprocessing, sys
import transfer_engine as te

def target(connection):
    with te.Engine(host="127.0.0.1") as engine:
        memory = bytearray(1 << 20)
        engine.register(memory)
        connection.send(engine.local_endpoint)
        connection.recv()
        connection.send(bytes(memory) == b"m" * (1 << 20))

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    engine = te.Engine(host="127.0.0.1")  # before the fork
    ours, theirs = context.Pipe()
    child = context.Process(target=target, args=(theirs,))
    child.start()
    local = bytearray(b"m" * (1 << 20))
    engine.register(local)
    engine.open(ours.recv()).write(local).wait()
    ours.send("look")
    assert ours.recv()
    child.join()
    assert child.exitcode == 0
    child = context.Process(target=target, args=(theirs,))
    child.start()
    ours.recv()
    child.terminate()
    child.join()
    engine.close()
""")
    result = subprocess.run([sys.executable, str(program), method], capture_output=True, text=True,
                            timeout=60, check=False)
    errors = [line for line in result.stderr.splitlines() if "resource_tracker" not in line]
    assert (result.returncode, result.stdout, errors) == (0, "", [])
