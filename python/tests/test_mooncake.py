"""transfer_engine.mooncake beyond what it shares with Mooncake, and what clients rely on.

Every method is in mooncake_*_cases.py, which test_mooncake_differential.py runs.
"""
import importlib.util
import inspect
import logging
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time

import numpy
import pytest

from mooncake_support import HOST, P2P, SIZE, Memory, Peer, engine, pattern, poll
from transfer_engine import mooncake
from transfer_engine.mooncake import engine as module
from transfer_engine.mooncake import unregistered

OURS = "transfer_engine.mooncake"


@pytest.fixture
def made():
    return engine(mooncake)


@pytest.fixture
def source(made):
    memory = Memory(SIZE, 1)
    assert made.register_memory(memory.address, SIZE) == 0
    return memory


@pytest.fixture
def peer():
    with Peer(OURS, seed=2) as started:
        yield started


@pytest.fixture
def stopped(made, source, peer):
    """The peer does not answer, over TCP; shm copies from the memory of stopped processes."""
    made._engine.uninstall_transport("shm")
    assert made.transfer_sync_read(peer.session, source.address, peer.address, 8) == 0
    peer.stop()
    return peer


def python(code, path=""):
    """What a program prints, in a process of its own that finds packages in `path` first."""
    paths = os.pathsep.join([str(path), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True,
                            env={**os.environ, "PYTHONPATH": paths}, text=True, timeout=60)
    return result.stdout.strip()


# --- Import ---

def test_install_without_mooncake():
    assert python("""
import transfer_engine.mooncake
transfer_engine.mooncake.install()
transfer_engine.mooncake.install()
import mooncake.engine
from mooncake.engine import TransferEngine
from mooncake import engine
assert engine is mooncake.engine
print(TransferEngine is transfer_engine.mooncake.TransferEngine)
""") == "True"


def test_install_beside_mooncake(tmp_path):
    package = tmp_path / "mooncake"
    package.mkdir()
    (package / "__init__.py").write_text("own = 1\n")
    (package / "engine.py").write_text("raise ImportError('the wrong one')\n")
    (package / "store.py").write_text("own = 2\n")
    assert python("""
import transfer_engine.mooncake
transfer_engine.mooncake.install()
import mooncake.engine, mooncake.store
print(mooncake.own, mooncake.store.own, mooncake.engine.TransferEngine.__module__)
""", path=tmp_path) == "1 2 transfer_engine.mooncake.engine"


def test_install_beside_a_broken_mooncake(tmp_path):
    package = tmp_path / "mooncake"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('libcudart.so.12')\n")
    (package / "other.py").write_text("own = 3\n")
    assert python("""
import transfer_engine.mooncake
transfer_engine.mooncake.install()
import mooncake.engine, mooncake.other
print(mooncake.other.own, mooncake.engine.TransferEngine.__module__)
""", path=tmp_path) == "3 transfer_engine.mooncake.engine"


PACKAGE = pathlib.Path(__file__).parents[1] / "mooncake" / "src"
SHOW = "import mooncake.engine as e; print(e.TransferEngine.__module__, sorted(e.__all__)[-1])"


@pytest.mark.skipif(importlib.util.find_spec("mooncake") is not None,
                    reason="Mooncake is installed")
def test_the_package_alone():
    assert python(SHOW, path=PACKAGE) == "transfer_engine.mooncake.engine Write"


def test_the_package_beside_mooncake(tmp_path):
    """It shares no file with Mooncake, and comes before its engine."""
    installed = tmp_path / "mooncake"
    shutil.copytree(PACKAGE / "mooncake", installed)
    assert [path.name for path in installed.iterdir() if path.name != "__pycache__"] == ["engine"]
    (installed / "__init__.py").write_text("own = 1\n")
    (installed / "engine.so").write_bytes(b"no library")
    assert python(SHOW + "; import mooncake; print(mooncake.own)", path=tmp_path) == (
        "transfer_engine.mooncake.engine Write\n1")


def test_cuda_calls_are_absent():
    assert not [name for name in dir(mooncake.TransferEngine) if name.endswith("_on_cuda")]


def test_every_public_method_is_documented():
    undocumented = [name for name, method in vars(mooncake.TransferEngine).items()
                    if inspect.isfunction(method) and name[0] != "_" and not method.__doc__]
    assert undocumented == []


def test_opcodes_as_the_documentation_spells_them():
    assert mooncake.TransferOpcode.READ is mooncake.TransferOpcode.Read
    assert mooncake.TransferOpcode.WRITE is mooncake.TransferOpcode.Write


def test_inner_engine_is_refused_with_the_reason(made):
    for call in (made.get_engine, made.get_engine_ptr):
        with pytest.raises(NotImplementedError, match="store needs Mooncake's own engine"):
            call()


# --- Start ---

def test_rdma_without_nics_suggests_tcp(caplog):
    if os.path.isdir("/sys/class/infiniband") and os.listdir("/sys/class/infiniband"):
        pytest.skip("this machine has RDMA devices")
    assert mooncake.TransferEngine().initialize(HOST, P2P, "rdma", "") == -1
    assert 'pass the protocol "tcp", or set MC_FORCE_TCP=1' in caplog.text


def test_unknown_protocol_is_refused_by_name(caplog):
    assert mooncake.TransferEngine().initialize(HOST, P2P, "pigeon", "") == -1
    assert "pigeon" in caplog.text


def test_ports_are_of_the_range(monkeypatch):
    assert 15000 <= engine(mooncake).get_rpc_port() <= 17000
    monkeypatch.setenv("MC_MIN_RPC_PORT", "21000")
    monkeypatch.setenv("MC_MAX_PRC_PORT", "21003")
    ports = [made.get_rpc_port() for made in [engine(mooncake) for _ in range(4)]]
    assert sorted(ports) == [21000, 21001, 21002, 21003]


def test_a_full_range_of_ports_is_an_error(monkeypatch, caplog):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        monkeypatch.setenv("MC_MIN_RPC_PORT", port)
        monkeypatch.setenv("MC_MAX_RPC_PORT", port)
        assert mooncake.TransferEngine().initialize(HOST, P2P, "tcp", "") == -1
        assert port in caplog.text


def test_port_is_kept_on_request(monkeypatch):
    monkeypatch.setenv("MC_LEGACY_RPC_PORT_BINDING", "1")
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    made = mooncake.TransferEngine()
    assert made.initialize(f"{HOST}:{port}", P2P, "tcp", "") == 0
    assert made.get_rpc_port() == port


def test_all_addresses_as_host(source, made):
    """LMCache starts the engine with the address it listens on, and tells peers another."""
    other = mooncake.TransferEngine()
    assert other.initialize("0.0.0.0", P2P, "tcp", "") == 0
    assert other.register_memory(source.address, SIZE) == 0
    memory = Memory(SIZE)
    assert made.register_memory(memory.address, SIZE) == 0
    assert made.transfer_sync_read(f"{HOST}:{other.get_rpc_port()}", memory.address,
                                   source.address, SIZE) == 0
    assert memory.read() == source.read()


def test_an_address_of_another_machine_as_host(made, source):
    """Behind an address translation, or with the name that others know."""
    other = mooncake.TransferEngine()
    assert other.initialize("192.0.2.77", P2P, "tcp", "") == 0
    assert other.get_rpc_port() > 0


def test_a_failed_start_leaves_the_engine_unusable(caplog):
    made = mooncake.TransferEngine()
    assert made.initialize("h", "http://127.0.0.1:1/metadata", "tcp", "") == -1
    assert made.transfer_sync_write("127.0.0.1:1", 4096, 4096, 1) == -1
    assert "initialize() was not called, or failed" in caplog.text


# --- Registration ---

def test_same_range_is_counted(made):
    memory = Memory(SIZE)
    assert made.register_memory(memory.address, SIZE) == 0
    assert made.register_memory(memory.address, SIZE) == 0
    assert made.batch_register_memory([memory.address] * 2, [SIZE] * 2) == 0
    assert [made.unregister_memory(memory.address) for _ in range(5)] == [0, 0, 0, 0, -3]


def test_a_batch_is_registered_as_a_whole(made):
    first, second = Memory(SIZE), Memory(SIZE)
    assert made.batch_register_memory([first.address, second.address], [SIZE]) < 0
    assert made.unregister_memory(first.address) < 0


# --- Transfers ---

def test_arrays_are_taken_as_they_are(made, source, peer):
    """A request has up to 100,000 addresses."""
    count = 100_000
    large = Memory(count * 64, 3)
    assert made.register_memory(large.address, large.size) == 0
    with Peer(OURS, size=count * 64) as target:
        offsets = numpy.arange(count, dtype=numpy.uint64) * 64
        lengths = numpy.full(count, 64, dtype=numpy.uint64)
        assert made.batch_transfer_sync_write(
            target.session, large.address + offsets, target.address + offsets[::-1], lengths) == 0
        rows = numpy.frombuffer(large.read(), numpy.uint8).reshape(count, 64)
        assert target.read() == rows[::-1].tobytes()


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
def test_lengths_of_any_integer_type(made, source, peer, dtype):
    lengths = numpy.array([64, 32], dtype)
    assert made.batch_transfer_sync_write(
        peer.session, [source.address, source.address + 64],
        [peer.address, peer.address + 64], lengths) == 0
    assert peer.read(0, 96) == source.read(0, 96)
    assert peer.read(96, 64) == pattern(SIZE, 2)[96:160]


def test_large_unregistered_memory_goes_in_parts(made, monkeypatch):
    monkeypatch.setattr(unregistered, "PART", 10_000)
    memory, size = Memory(1 << 20, 5), 1 << 20
    with Peer(OURS, size=size, seed=6) as target:
        here = [memory.address + 7, memory.address + 200_000]
        there = [target.address, target.address + 300_000]
        lengths = [123_457, 25_000]
        assert made.batch_transfer_sync_write(target.session, here, there, lengths) == 0
        assert target.read(0, 123_457) == memory.read(7, 123_457)
        assert target.read(300_000, 25_000) == memory.read(200_000, 25_000)
        assert target.read(325_000, 5000) == pattern(size, 6)[325_000:330_000]
        batch = made.batch_transfer_async_read(target.session, here, there, lengths)
        assert poll(made, batch) == 1
        assert memory.read(7, 123_457) == target.read(0, 123_457)


def test_unregistered_memory_is_named_once(made, peer, caplog):
    memory = Memory(SIZE)
    for _ in range(3):
        assert made.transfer_sync_write(peer.session, memory.address, peer.address, 64) == 0
    assert caplog.text.count("register it for speed") == 1


def test_threads_use_the_same_unregistered_memory(made, peer):
    """With ranges that overlap, which no two registrations could have."""
    memory, results = Memory(SIZE, 7), []

    def send(first):
        for _ in range(20):
            results.append(made.transfer_sync_write(
                peer.session, memory.address + first, peer.address + first, 30000))

    threads = [threading.Thread(target=send, args=(first,)) for first in (0, 10000, 20000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [0] * 60
    assert peer.read(0, 50000) == memory.read(0, 50000)


def test_notification_follows_data_that_is_not_registered(made, peer):
    memory = Memory(SIZE, 8)
    assert made.transfer_sync(peer.session, memory.address, peer.address, SIZE,
                              mooncake.TransferOpcode.Write,
                              mooncake.TransferNotify("done", "8")) == 0
    assert peer.notifies() == [("done", "8")]
    assert peer.read() == memory.read()


def test_bytes_that_are_no_text_survive_a_notification(made, source):
    message = b"\xff\xfe".decode(errors="surrogateescape")
    me = f"{HOST}:{made.get_rpc_port()}"
    assert made.transfer_sync(me, source.address, source.address + 4096, 8,
                              mooncake.TransferOpcode.Write,
                              mooncake.TransferNotify("n", message)) == 0
    assert [note.msg.encode(errors="surrogateescape") for note in made.get_notifies()] == [
        b"\xff\xfe"]


def test_lengths_beyond_all_memory_fail(made, source, peer):
    for length in (SIZE + 1, 1 << 40, (1 << 64) - 1):
        assert made.transfer_sync_read(peer.session, source.address, peer.address, length) == -1
        assert made.transfer_sync_write(peer.session, source.address, peer.address, length) == -1
        assert made.batch_transfer_async_write(peer.session, [source.address], [peer.address],
                                               [length, length]) == 0


# --- Ids ---

def test_ids_are_small_and_their_status_stays(made, source, peer):
    ids = [made.transfer_submit_write(peer.session, source.address, peer.address, 64)
           for _ in range(3)]
    assert ids == [1, 2, 3]
    assert made.get_batch_transfer_status(ids) == 0
    assert [made.transfer_check_status(batch) for batch in ids * 2] == [1] * 6
    assert made.get_batch_transfer_status([*ids, 4]) == -1
    assert made.transfer_check_status(4) == -1


def test_oldest_ids_are_forgotten(made, source, peer, monkeypatch):
    monkeypatch.setattr(module, "BATCHES_MAX", 10)
    ids = [made.transfer_submit_write(peer.session, source.address, peer.address, 64)
           for _ in range(10)]
    assert made.get_batch_transfer_status(ids) == 0
    made.transfer_submit_write(peer.session, source.address, peer.address, 64)
    assert [made.transfer_check_status(batch) for batch in ids[:3]] == [-1, 1, 1]


def test_ids_in_flight_are_not_forgotten(made, source, stopped, monkeypatch):
    monkeypatch.setattr(module, "BATCHES_MAX", 2)
    ids = [made.batch_transfer_async_read(stopped.session, [source.address + 64 * i],
                                          [stopped.address], [64]) for i in range(5)]
    assert made.transfer_check_status(ids[0]) == 0
    stopped.go_on()
    assert made.get_batch_transfer_status(ids) == 0


def test_threads_forget_ids_together(made, source, peer, monkeypatch):
    monkeypatch.setattr(module, "BATCHES_MAX", 20)
    statuses = []

    def send():
        for _ in range(200):
            statuses.append(poll(made, made.transfer_submit_write(
                peer.session, source.address, peer.address, 64)))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [1] * 1600
    assert len(made._batches) <= 20 + len(threads)


def test_waiting_for_ids_leaves_other_threads_free(made, source, stopped):
    batch = made.batch_transfer_async_read(stopped.session, [source.address], [stopped.address],
                                           [64])
    waiting = threading.Thread(target=made.get_batch_transfer_status, args=([batch],))
    waiting.start()
    begin = time.monotonic()
    time.sleep(0.2)
    assert waiting.is_alive() and time.monotonic() - begin < 2
    stopped.go_on()
    waiting.join(10)
    assert not waiting.is_alive()


# --- Deadlines ---

@pytest.fixture
def five_seconds(monkeypatch):
    """Before `made`, which reads it."""
    monkeypatch.setenv("MC_TRANSFER_TIMEOUT", "5")


def test_a_transfer_ends_at_its_deadline(five_seconds, made, source, stopped):
    begin = time.monotonic()
    batch = made.batch_transfer_async_read(stopped.session, [source.address], [stopped.address],
                                           [64])
    assert made.transfer_sync_read(stopped.session, source.address + 4096, stopped.address,
                                   64) == -1
    assert 4.9 < time.monotonic() - begin < 7
    assert [poll(made, batch), made.transfer_check_status(batch)] == [-2, -2]
    stopped.go_on()
    assert made.transfer_sync_read(stopped.session, source.address, stopped.address, 64) == 0


# --- Peers that end ---

def test_a_peer_that_ended_is_forgotten(made, source):
    with Peer(OURS) as peer:
        assert made.transfer_sync_write(peer.session, source.address, peer.address, 64) == 0
        assert list(made._segments) == [peer.session]
        peer.kill()
        assert made.transfer_sync_write(peer.session, source.address, peer.address, 64) == -1
    assert list(made._segments) == []


def test_errors_name_the_cause(made, source, peer, caplog):
    with caplog.at_level(logging.WARNING, OURS):
        assert made.transfer_sync_write(peer.session, source.address, 4096, 64) == -1
    assert peer.session in caplog.text
