"""Bytes between two processes, by each kind of argument; every byte is compared."""
import array
import ctypes
import hashlib
import mmap
import os

import pytest

import transfer_engine as te

numpy = pytest.importorskip("numpy")
LENGTH = 1 << 20


def digest(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(params=["shm", "tcp"])
def initiator(request):
    with te.Engine(host="127.0.0.1") as made:
        made.install_transport(request.param)
        yield made


def test_a_numpy_array_is_written_and_read(initiator, start_peer):
    peer = start_peer(LENGTH)
    local = numpy.random.default_rng(1).integers(0, 256, LENGTH, numpy.uint8)
    initiator.register(local)
    with initiator.open(peer.name) as segment:
        transfer = segment.write(local)
        assert transfer.wait() == LENGTH
        assert transfer.done() and transfer.error is None and transfer.bytes == LENGTH
        assert peer.ask("sum") == digest(local)
        back = numpy.zeros_like(local)
        initiator.register(back)
        assert segment.read(back[4096:8192], 4096).wait(5) == 4096
        assert (back[4096:8192] == local[4096:8192]).all()
        assert not back[:4096].any() and not back[8192:].any()


@pytest.mark.parametrize("make", [
    lambda: bytearray(os.urandom(LENGTH)),
    lambda: memoryview(bytearray(os.urandom(LENGTH))),
    lambda: array.array("Q", range(LENGTH // 8)),
    lambda: (ctypes.c_char * LENGTH)(*b"123"),
    lambda: mmap.mmap(-1, LENGTH),
    lambda: bytes(os.urandom(LENGTH)),
], ids=["bytearray", "memoryview", "array", "ctypes", "mmap", "bytes"])
def test_objects_with_the_buffer_protocol_are_written(engine, start_peer, make):
    peer = start_peer(LENGTH)
    memory = make()
    engine.register(memory)
    engine.open(peer.name).write(memory).wait()
    assert peer.ask("sum") == digest(memory)


def test_tensors_are_known_by_their_methods(engine, start_peer):
    """What torch.Tensor has, also where torch is not installed."""
    class Tensor:
        def __init__(self, inner):
            self.inner = inner

        def data_ptr(self):
            return self.inner.ctypes.data

        def is_contiguous(self):
            return self.inner.flags.c_contiguous

        def numel(self):
            return self.inner.size

        def element_size(self):
            return self.inner.itemsize

    peer = start_peer(LENGTH)
    values = numpy.arange(LENGTH // 2, dtype=numpy.uint16).reshape(8, -1)
    engine.register(Tensor(values))
    engine.open(peer.name).write(Tensor(values)).wait()
    assert peer.ask("sum") == digest(values)
    with pytest.raises(te.InvalidArgumentError, match="not C-contiguous"):
        engine.register(Tensor(values[:, ::2]))


def test_dlpack_objects_are_written(engine, start_peer):
    class OnlyDlpack:
        def __init__(self, inner):
            self.inner = inner

        def __dlpack__(self, **options):
            return self.inner.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.inner.__dlpack_device__()

    peer = start_peer(LENGTH)
    values = numpy.arange(LENGTH // 4, dtype=numpy.float32)
    engine.register(OnlyDlpack(values))
    engine.open(peer.name).write(OnlyDlpack(values)).wait()
    assert peer.ask("sum") == digest(values)


def test_cuda_arrays_are_their_address_and_length(engine, start_peer):
    class CudaArray:
        """Host memory under the interface of arrays of GPUs."""

        def __init__(self, inner):
            self.inner = inner
            self.__cuda_array_interface__ = {
                "data": (inner.ctypes.data, False), "shape": inner.shape, "strides": None,
                "typestr": inner.dtype.str, "version": 3}

    peer = start_peer(LENGTH)
    values = numpy.arange(LENGTH // 4, dtype=numpy.float32).reshape(4, -1)
    engine.register(CudaArray(values))
    engine.open(peer.name).write(CudaArray(values)).wait()
    assert peer.ask("sum") == digest(values)


def test_an_address_and_a_length_are_transferred(engine, start_peer):
    peer = start_peer(LENGTH)
    local = numpy.random.default_rng(2).integers(0, 256, LENGTH, numpy.uint8)
    registration = engine.register(local.ctypes.data, LENGTH)
    assert (registration.address, registration.length) == (local.ctypes.data, LENGTH)
    engine.open(peer.name).write(local.ctypes.data, 0, LENGTH).wait()
    assert peer.ask("sum") == digest(local)


@pytest.mark.parametrize("kind", ["numpy", "int64", "strided", "lists", "one length"])
def test_lists_of_addresses(initiator, start_peer, kind):
    peer = start_peer(LENGTH)
    local = numpy.random.default_rng(3).integers(0, 256, LENGTH, numpy.uint8)
    initiator.register(local)
    count = 256
    order = numpy.random.default_rng(4).permutation(count).astype(numpy.uint64)
    size = LENGTH // count
    sources = numpy.arange(count, dtype=numpy.uint64) * size + local.ctypes.data
    offsets = order * size
    lengths = numpy.full(count, size, numpy.uint64)
    if kind == "int64":
        sources, offsets, lengths = (x.astype(numpy.int64) for x in (sources, offsets, lengths))
    elif kind == "strided":
        sources = numpy.repeat(sources, 2)[::2]
    elif kind == "lists":
        sources, offsets, lengths = sources.tolist(), offsets.tolist(), tuple(lengths.tolist())
    elif kind == "one length":
        lengths = size
    segment = initiator.open(peer.name)
    assert segment.write(sources, offsets, lengths).wait() == LENGTH
    expected = numpy.empty_like(local).reshape(count, size)
    expected[order.astype(int)] = local.reshape(count, size)
    assert peer.ask("sum") == digest(expected)
    written = local.copy()
    local[:] = 0
    assert segment.read(sources, offsets, lengths).wait() == LENGTH
    assert (local == written).all()


def test_block_lists_and_prepared_lists(initiator, start_peer):
    peer = start_peer(LENGTH)
    layers, blocks, size = 4, 64, 4096
    local = numpy.random.default_rng(5).integers(0, 256, (layers, blocks, size), numpy.uint8)
    initiator.register(local)
    source_blocks = numpy.arange(blocks)
    target_blocks = source_blocks[::-1]
    regions = [(local[i].ctypes.data, i * blocks * size, size) for i in range(layers)]
    segment = initiator.open(peer.name)
    block_list = te.BlockList(regions, source_blocks, target_blocks)
    assert len(block_list) == layers * blocks
    assert segment.write(block_list).wait() == LENGTH
    assert peer.ask("sum") == digest(numpy.ascontiguousarray(local[:, ::-1]))
    prepared = segment.prepare_read(
        te.BlockList(numpy.array(regions, numpy.uint64), source_blocks, source_blocks))
    assert (prepared.ranges, prepared.bytes) == (layers, LENGTH)
    expected = local[:, ::-1].copy()
    for _ in range(3):
        local[:] = 0
        assert segment.read(prepared).wait() == LENGTH
        assert (local == expected).all()


def test_allocated_memory_is_transferred_and_outlives_its_engine(start_peer):
    peer = start_peer(LENGTH)
    with te.Engine(host="127.0.0.1") as engine:
        memory = engine.allocate(LENGTH)
        values = numpy.frombuffer(memory, numpy.uint8)
        values[:] = numpy.random.default_rng(6).integers(0, 256, LENGTH, numpy.uint8)
        engine.open(peer.name).write(memory).wait()
        with pytest.raises(te.BusyError, match="numpy"):
            memory.free()
        unused = engine.allocate(4096)
        freed = engine.allocate(4096)
        freed.free()
    assert peer.ask("sum") == digest(values)
    for gone in (unused, freed):
        with pytest.raises(BufferError):
            memoryview(gone)
    del memory
    assert peer.ask("sum") == digest(values)


def test_notifications_arrive_after_the_bytes(engine, start_peer):
    peer = start_peer(LENGTH)
    segment = engine.open(peer.name)
    local = bytearray(b"x" * LENGTH)
    engine.register(local)
    segment.write(local, notification=("done", b"\0\xff")).wait()
    segment.write(local, notification=te.Notification("again")).wait()
    segment.notify("alone", b"text")
    segment.notify("view", memoryview(bytearray(b"text"))[1:])
    segment.write(local, notification=("array", bytearray(b"x"))).wait()
    assert peer.ask("notifications") == repr([
        ("done", b"\0\xff"), ("again", b""), ("alone", b"text"), ("view", b"ext"),
        ("array", b"x")])


def test_what_an_engine_says_of_itself(engine, start_peer):
    peer = start_peer(LENGTH)
    segment = engine.open(peer.name)
    assert (engine.host, engine.port) == ("127.0.0.1", int(engine.local_endpoint.split(":")[1]))
    assert engine.local_name == engine.local_endpoint
    info = segment.describe()
    assert [(b.offset, b.length, b.access) for b in info.buffers] == [
        (0, LENGTH, te.Access.READ_WRITE)]
    assert f"{info.host}:{info.port}" == peer.name
    engine.warmup(peer.name)
    engine.sync_segments()
    assert peer.name in {path.segment for path in engine.paths()}
    assert isinstance(engine.paths_of(peer.name), list)
    assert len(engine.probe(peer.name, 3).round_trips_ns) == 3
    assert {load.device for load in engine.device_loads()} >= {"tcp", "shm"}
    assert {transport.name for transport in engine.transports()} >= {"tcp", "shm", "rdma"}
    assert "cpu:0" in engine.nic_priority_matrix()
    assert engine.topology()
    settings = {row["name"]: row for row in engine.effective_config()}
    assert settings["transfer_timeout_ms"]["value"]
    assert engine.local_segment.id == 0 and engine.local_segment.describe().buffers == []


def test_addressing_and_settings():
    memory = bytearray(4096)
    with te.Engine(host="127.0.0.1", addressing=te.Addressing.ADDRESS) as target, \
            te.Engine(host="127.0.0.1",
                      settings={"slice_bytes": 65536, "tcp_zero_copy": "off"}) as e:
        local = bytearray(b"y" * 4096)
        address = target.register(memory).address
        e.register(local)
        segment = e.open(target.local_endpoint)
        segment.write(local, address, addressing=te.Addressing.ADDRESS).wait()
        assert memory == local
        e.set_addressing(te.Addressing.ADDRESS)
        segment.write(local, address).wait()
        assert {row["name"]: row["value"] for row in e.effective_config()}["slice_bytes"] == "65536"


def test_objects_say_what_they_are(engine, target):
    memory, local = bytearray(4096), bytearray(4096)
    registration = target.register(memory)
    assert repr(registration) == f"Registration({registration.address:#x}, 4096 bytes)"
    engine.register(local)
    segment = engine.open(target.local_endpoint)
    assert repr(segment) == f"Segment('{target.local_endpoint}')"
    assert repr(target) == f"Engine('{target.local_name}')"
    transfer = segment.write(local)
    assert repr(transfer) in ("Transfer(in flight)", "Transfer(done, 4096 bytes)")
    transfer.wait()
    assert repr(transfer) == "Transfer(done, 4096 bytes)"
    failed = segment.write(local, 1 << 20)
    with pytest.raises(te.OutOfRangeError):
        failed.wait()
    assert repr(failed) == "Transfer(failed: out_of_range)"
    address = numpy.frombuffer(local, numpy.uint8).ctypes.data
    blocks = te.BlockList([(address, 0, 64)], [0, 2], [0, 2])
    assert repr(blocks) == "BlockList(2 blocks)"
    assert repr(segment.prepare_write(blocks)) == "PreparedList(2 ranges, 128 bytes)"
    allocated = engine.allocate(4096)
    assert repr(allocated) == f"Memory({allocated.address:#x}, 4096 bytes)"
    allocated.free()
    assert repr(allocated) == "Memory(freed)" and len(allocated) == 0
    registration.unregister()
    assert repr(registration).endswith(", unregistered)")
    engine.close()
    assert repr(engine) == "Engine(closed)"


def test_classes_are_of_the_package():
    for name in te.__all__:
        if isinstance(getattr(te, name), type):
            assert getattr(te, name).__module__ == "transfer_engine", name
