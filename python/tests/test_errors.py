"""Each wrong input has a typed exception, whose text says what, where, and what to do."""
import pickle

import pytest

import transfer_engine as te

numpy = pytest.importorskip("numpy")


@pytest.fixture
def memory():
    return bytearray(1 << 16)


@pytest.fixture
def local(engine):
    made = bytearray(1 << 16)
    engine.register(made)
    return made


@pytest.fixture
def segment(engine, target, memory):
    target.register(memory)
    return engine.open(target.local_endpoint)


def raises(error, text, call, *arguments, also=(), **named):
    with pytest.raises(error, match=text) as info:
        call(*arguments, **named)
    value = info.value
    assert type(value) is error and isinstance(value, te.TransferEngineError)
    assert value.code == error.code and value.hint and text_of(value)
    for each in also:
        assert isinstance(value, each)
    return value


def text_of(error):
    return str(error).startswith(error.message) and len(error.message) > 10


class Contiguous:
    """What has __dlpack__, and nothing behind it."""

    def __dlpack__(self, **_):
        raise RuntimeError("no")

    def __dlpack_device__(self):
        return 1, 0


INVALID = te.InvalidArgumentError


@pytest.mark.parametrize("memory_, length, text", [
    (None, None, "NoneType has no memory"),
    ("text", None, "str has no memory"),
    (object(), None, "object has no memory"),
    ([1, 2], None, "list has no memory"),
    (1.5, None, "float has no memory"),
    (Contiguous(), None, "__dlpack__"),
    (4096, None, "without a length"),
    (-1, 10, "-1: give an int from 0"),
    (1 << 64, 10, "from 0 to 2"),
    (4096, -1, "length is -1"),
    (4096, "x", "length is a str"),
], ids=repr)
def test_what_is_no_memory(engine, segment, memory_, length, text):
    raises(INVALID, text, engine.register, memory_, length, also=[ValueError])
    raises(INVALID, text, segment.write, memory_, 0, length)


def test_memory_that_cannot_be_used_as_one_range(engine, segment, local):
    array = numpy.zeros((8, 8))
    raises(INVALID, "not C-contiguous", engine.register, array[:, ::2])
    raises(INVALID, "not C-contiguous", segment.write, array.T[1:])
    raises(te.OutOfRangeError, "has 65536 bytes", segment.write, local, 0, 1 << 17,
           also=[IndexError])
    error = raises(te.PermissionDeniedError, "read-only", segment.read, b"constant",
                   also=[PermissionError, OSError])
    assert error.address
    array.flags.writeable = False
    raises(te.PermissionDeniedError, "read-only", segment.read, array)
    raises(te.PermissionDeniedError, "read-only", engine.register, array,
           access=te.Access.READ_WRITE)


def test_read_only_objects_are_offered_for_reading(engine, target):
    target.register(b"constant" * 8)
    segment = engine.open(target.local_endpoint)
    assert segment.describe().buffers[0].access == te.Access.READ
    local = bytearray(64)
    engine.register(local)
    segment.read(local).wait()
    assert bytes(local) == b"constant" * 8
    transfer = segment.write(local)
    error = raises(te.PermissionDeniedError, "target", transfer.wait)
    assert error.peer == segment.name and error.address
    assert type(transfer.error) is type(error) and str(transfer.error) == str(error)


def test_memory_that_is_not_registered(engine, segment):
    other = bytearray(64)
    error = raises(INVALID, "register it first", segment.write, other)
    assert error.peer == segment.name and error.address
    raises(te.NotFoundError, "no buffer is registered", engine.unregister, other,
           also=[LookupError])
    raises(te.NotFoundError, "0x1000", engine.unregister, 4096)
    raises(te.NotFoundError, "0x1000", engine.unregister_batch, [4096])


def test_overlaps_and_batches(engine, local):
    raises(te.AlreadyExistsError, "overlap", engine.register, memoryview(local)[16:32],
           also=[ValueError])
    raises(INVALID, "2 addresses and 1 lengths", engine.register_batch, [1, 2], [3])
    raises(INVALID, "addresses is a int", engine.register_batch, 1, [3])
    raises(te.AlreadyExistsError, "overlap", engine.register_batch,
           numpy.array([memoryview_address(local)], numpy.uint64), [32])
    array = numpy.zeros(1 << 14, numpy.uint8)
    begins = numpy.arange(4, dtype=numpy.uint64) * 4096 + array.ctypes.data
    engine.register_batch(begins, numpy.full(4, 4096))
    engine.unregister_batch(begins)


def memoryview_address(data):
    return numpy.frombuffer(data, numpy.uint8).ctypes.data


@pytest.mark.parametrize("arguments, text", [
    (([1], [2]), "takes lengths"),
    (([1], [2], [3, 4]), "1 sources, 1 target offsets, 2 lengths"),
    (([1, 2], [2], 4), "2 sources, 1 target offsets"),
    ((1, [2], [3]), "source is a int"),
    (([1], "x", [3]), "target_offset is a str"),
    (([1], {"a": 1}, [3]), "target_offset is a dict"),
    (([1.5], [2], [3]), r"source\[0\] is a float"),
    (([1, -1], [2, 2], 3), r"source\[1\] is -1"),
    (([1], [2], -4), "length is -4: give an int from 0"),
    ((numpy.zeros(2), [1, 2], 4), "format 'd'"),
    ((numpy.zeros(2, numpy.uint32), [1, 2], 4), "astype"),
    ((numpy.zeros((2, 2), numpy.uint64), [1, 2], 4), "2 dimensions"),
    ((numpy.array([-5, 1]), [1, 2], 4), "negative"),
    ((b"12345678", [1], 4), "64-bit integers"),
], ids=repr)
def test_wrong_lists(segment, arguments, text):
    raises(INVALID, text, segment.write, *arguments)
    raises(INVALID, text, segment.prepare_read, *arguments)


@pytest.mark.parametrize("arguments, text", [
    (([(1, 2, 3), (1, 2)], [0], [0]), r"regions\[1\] has 2 numbers"),
    (([1], [0], [0]), r"regions\[0\] is a int"),
    (([(1, "2", 3)], [0], [0]), r"regions\[0\]\[1\] is a str"),
    ((numpy.zeros((2, 2), numpy.uint64), [0], [0]), "shape"),
    (([(1, 2, 3)], [0], [0, 1]), "1 source_blocks and 2 target_blocks"),
    (([(1, 2, 3)], None, [0, 1]), "source_blocks is a NoneType"),
], ids=repr)
def test_wrong_block_lists(arguments, text):
    raises(INVALID, text, te.BlockList, *arguments)


def test_lists_are_used_as_they_were_made(engine, target, segment, local):
    address = memoryview_address(local)
    prepared = segment.prepare_write([address], [0], 64)
    raises(INVALID, "another direction", segment.read, prepared)
    raises(INVALID, "another segment", engine.local_segment.write, prepared)
    raises(INVALID, "says itself", segment.write, prepared, 0)
    raises(INVALID, "says itself", segment.write, te.BlockList([], [], []), None, 4)
    raises(INVALID, "takes lists", segment.prepare_write, local)
    raises(INVALID, "takes lists", segment.prepare_write, local, 0)
    raises(INVALID, "register it first", segment.prepare_write, [4096], [0], 64)
    assert segment.write([], [], []).wait() == 0


@pytest.mark.parametrize("named, text", [
    ({"timeout": "soon"}, "timeout"),
    ({"timeout": float("nan")}, "timeout is nan"),
    ({"timeout": 1e30}, "timeout is"),
    ({"notification": "name"}, "Notification or a tuple"),
    ({"notification": ("name", "text")}, r"message is a str: give bytes, such as text.encode\(\)"),
    ({"notification": (b"name", b"")}, "name of the notification is a bytes"),
    ({"notification": ("name", None)}, "message is a NoneType"),
    ({"notification": ("\ud800", b"")}, "name of the notification is no valid text"),
    ({"notification": ("a\0b", b"")}, "NUL"),
    ({"addressing": 3}, "Addressing"),
], ids=repr)
def test_wrong_options(segment, local, named, text):
    raises(INVALID, text, segment.write, local, **named)


def test_wrong_offsets(segment, local):
    raises(INVALID, "target_offset is -1", segment.write, local, -1)
    raises(INVALID, "target_offset is a str", segment.write, local, "0")
    raises(INVALID, "target_offset is a float", segment.write, [1], 1.5, 1)
    transfer = segment.write(local, 1 << 20)
    error = raises(te.OutOfRangeError, "segment", transfer.wait)
    assert error.peer == segment.name
    for wrong in ("x", float("nan"), float("inf")):
        raises(INVALID, "timeout", transfer.wait, wrong)  # done or not
        raises(INVALID, "timeout", segment.write(local, 1 << 20, timeout=60).wait, wrong)


@pytest.mark.parametrize("named, error, text", [
    ({"port": 70000}, INVALID, "port is 70000: give an int from 0, which is any, to 65535$"),
    ({"port": -1}, INVALID, "port is -1: give an int from 0, which is any, to 65535$"),
    ({"port": "x"}, INVALID, "port is a str"),
    ({"host": "192.0.2.1"}, INVALID, "192.0.2.1"),
    ({"metadata": "ftp://x"}, INVALID, "ftp"),
    ({"settings": {"no_such": 1}}, INVALID, "no_such"),
    ({"settings": {"slice_bytes": "many"}}, INVALID, "slice_bytes"),
    ({"settings": {1: 1}}, INVALID, "a name in settings is a int: give a str"),
    ({"settings": {"nics": "\ud800"}}, INVALID, r"settings\['nics'\] is no valid text"),
    ({"name": "a\0b"}, INVALID, "NUL"),
    ({"settings": 5}, INVALID, "settings"),
], ids=repr)
def test_engines_that_cannot_be(named, error, text):
    raises(error, text, te.Engine, **named)


def test_a_taken_port(engine):
    with pytest.raises(te.TransferEngineError, match=str(engine.port)):
        te.Engine(host="127.0.0.1", port=engine.port)


def test_wrong_types_name_the_signature(engine, segment):
    for call in (lambda: te.Engine(nothing=1), lambda: engine.open(5), lambda: segment.notify(5),
                 lambda: te.Notification(1), lambda: engine.set_addressing("x"),
                 lambda: segment.write(), lambda: segment.write(1, 2, 3, 4)):
        with pytest.raises(TypeError):
            call()


def test_peers_that_are_not_there(engine):
    error = raises(te.UnavailableError, "127.0.0.1:1", engine.open, "127.0.0.1:1",
                   also=[ConnectionError])
    assert error.peer == "127.0.0.1:1"
    raises(te.UnavailableError, "127.0.0.1:1", engine.probe, "127.0.0.1:1")
    with pytest.raises(te.TransferEngineError):
        engine.open("")
    raises(te.NotFoundError, "open", engine.warmup, "127.0.0.1:1")
    with pytest.raises(te.TransferEngineError, match="carrier"):
        engine.install_transport("carrier pigeon")
    raises(te.InvalidArgumentError, "local segment", engine.remove_local_segment, "x")


def test_a_target_that_is_gone(start_peer):
    peer = start_peer(4096)
    with te.Engine(host="127.0.0.1", settings={"retry_window_ms": 100}) as engine:
        local = bytearray(4096)
        engine.register(local)
        segment = engine.open(peer.name)
        peer.end()
        transfer = segment.write(local)
        error = raises(te.UnavailableError, "127.0.0.1", transfer.wait, 30, also=[ConnectionError])
        assert error.peer == segment.name and isinstance(error.address, int)


def test_memory_that_cannot_be_allocated(engine):
    raises(INVALID, "length", engine.allocate, 0)
    raises(INVALID, "length is -1", engine.allocate, -1)
    with pytest.raises(te.TransferEngineError):
        engine.allocate(1 << 62)
    raises(INVALID, "cpu:4000", engine.allocate, 4096, location="cpu:4000")


def test_a_segment_that_was_closed_says_so(segment, local):
    prepared = segment.prepare_write([memoryview_address(local)], [0], 64)
    segment.close()
    for call in (lambda: segment.write(local), lambda: segment.read(local), segment.describe,
                 lambda: segment.write(prepared), lambda: segment.prepare_write([1], [0], 1),
                 lambda: segment.notify("name")):
        error = raises(te.NotFoundError, "the segment was closed: open it again", call)
        assert error.peer == segment.name
    segment.close()


def test_every_code_has_a_class():
    assert {cls.code for cls in te.TransferEngineError.__subclasses__()} == set(te.Code) - {
        te.Code.OK}
    for cls in te.TransferEngineError.__subclasses__():
        assert cls.__doc__ and cls.hint and cls.__module__ == "transfer_engine"
        assert cls.__name__ in te.__all__
        error = cls("what it was", "peer:1", 4096)
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), copy.peer, copy.address) == (cls, "peer:1", 4096)
        assert str(error) == "what it was (segment 'peer:1', local address 0x1000)"
