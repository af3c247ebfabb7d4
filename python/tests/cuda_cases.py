"""Arrays of a GPU, on the CUDA driver of tests/support/fake_cuda: a program, since a process that
has loaded a driver keeps it.

`cuda_cases.py LIBRARY CASE`: ends with 0 if the case passes. test_cuda.py runs each.
"""
import ctypes
import os
import sys
import time

import transfer_engine as te

LENGTH = 1 << 20
DEFAULT_STREAM = 0

cuda = ctypes.CDLL(sys.argv[1])


def call(function, *arguments):
    result = getattr(cuda, function)(*arguments)
    assert result == 0, (function, result)


def handle(function, *arguments):
    made = ctypes.c_void_p()
    call(function, ctypes.byref(made), *arguments)
    return made


class Array:
    """Memory of GPU 0 as CuPy, Numba and others show it."""

    def __init__(self, content, *, read_only=False, **interface):
        pointer = handle("cuMemAlloc_v2", ctypes.c_size_t(LENGTH))
        self.address = pointer.value
        self.__cuda_array_interface__ = {
            "data": (self.address, read_only), "shape": (LENGTH // 4,), "strides": None,
            "typestr": "<f4", "version": 3, **interface}
        self.fill(content)

    def fill(self, content):
        assert len(content) == LENGTH
        call("cuMemcpyHtoD_v2", ctypes.c_uint64(self.address), content, ctypes.c_size_t(LENGTH))

    def content(self):
        back = ctypes.create_string_buffer(LENGTH)
        call("cuMemcpyDtoH_v2", back, ctypes.c_uint64(self.address), ctypes.c_size_t(LENGTH))
        return back.raw


class Stream:
    """As torch.cuda.Stream has it."""

    def __init__(self):
        self.made = handle("cuStreamCreate", 1)
        self.cuda_stream = self.made.value

    def launch_kernel(self):
        cuda.fake_cuda_hold(self.made)

    def end_kernel(self):
        cuda.fake_cuda_release(self.made)


class Event:
    """As torch.cuda.Event has it: made when it is recorded first."""

    cuda_event = 0

    def record(self, stream):
        self.made = handle("cuEventCreate", 0)
        self.cuda_event = self.made.value
        call("cuEventRecord", self.made, stream.made)


class Pair:
    def __init__(self, transport="tcp"):
        self.old, self.new = os.urandom(LENGTH), os.urandom(LENGTH)
        self.target = te.Engine(host="127.0.0.1")
        self.initiator = te.Engine(host="127.0.0.1")
        for engine in (self.target, self.initiator):
            engine.install_transport(transport)
        self.there, self.here = Array(self.old), Array(self.new)
        self.target.register(self.there)
        self.initiator.register(self.here)
        self.segment = self.initiator.open(self.target.local_endpoint)

    def close(self):
        self.initiator.close()
        self.target.close()


def refused(error, text, function, *arguments, **named):
    try:
        function(*arguments, **named)
    except error as caught:
        assert text in str(caught), str(caught)
    else:
        raise AssertionError("it was accepted: " + text)


def arrays_are_written_and_read():
    for transport in ("tcp", "shm"):
        pair = Pair(transport)
        [buffer] = pair.segment.describe().buffers
        assert (buffer.location, buffer.kind) == ("cuda:0", "cuda"), buffer
        assert pair.segment.write(pair.here).wait() == LENGTH
        assert pair.there.content() == pair.new
        pair.there.fill(pair.old)
        pair.segment.read(pair.here).wait()
        assert pair.here.content() == pair.old
        host = bytearray(LENGTH)
        pair.initiator.register(host)
        assert pair.initiator.local_segment.describe().buffers[1].kind == "host"
        pair.segment.read(host).wait()
        assert bytes(host) == pair.old
        pair.initiator.unregister(pair.here)
        pair.close()


def wrong_arrays_are_refused():
    engine = te.Engine(host="127.0.0.1")
    content = os.urandom(LENGTH)
    invalid = te.InvalidArgumentError
    rows = LENGTH // 64
    refused(invalid, "is not C-contiguous", engine.register,
            Array(content, shape=(8, rows), strides=(4, 32)))
    refused(invalid, "is not C-contiguous", engine.register, Array(content, strides=(8,)))
    refused(invalid, "is malformed", engine.register, Array(content, typestr="?"))
    refused(invalid, "is malformed", engine.register, Array(content, data=None))
    refused(invalid, "are not all memory of a GPU", engine.register,
            Array(content, shape=(LENGTH,)))
    refused(invalid, "cuda:1", engine.register, Array(content), location="cuda:1")
    refused(invalid, "cpu:0", engine.register, Array(content), location="cpu:0")
    engine.register(Array(content, shape=(8, rows), strides=(4 * rows, 4)))
    pair = Pair()
    read_only = Array(content, read_only=True)
    pair.initiator.register(read_only)
    refused(te.PermissionDeniedError, "is read-only", pair.segment.read, read_only)
    pair.segment.write(read_only).wait()
    assert pair.there.content() == content
    pair.close()
    engine.close()


def transfers_follow_streams_and_events():
    pair, stream = Pair(), Stream()
    event = Event()

    class Number(int):
        """The handle of an event."""

    for make in (lambda: stream, lambda: event, lambda: Number(event.cuda_event)):
        pair.there.fill(pair.old)
        pair.here.fill(pair.old)
        stream.launch_kernel()
        event.record(stream)
        transfer = pair.segment.write(pair.here, after=make())
        time.sleep(0.05)
        assert not transfer.done()
        pair.here.fill(pair.new)  # the kernel's last bytes
        stream.end_kernel()
        assert transfer.wait(20) == LENGTH
        assert pair.there.content() == pair.new
    stream.launch_kernel()
    late = pair.segment.write(pair.here, after=stream, timeout=0.05)
    refused(te.TransferTimeoutError, "after_stream", late.wait)
    stream.end_kernel()

    class Default:
        cuda_stream = DEFAULT_STREAM

    pair.segment.read(pair.here, after=Default()).wait()
    refused(te.InvalidArgumentError, "was never recorded", pair.segment.write, pair.here,
            after=Event())
    refused(te.InvalidArgumentError, "give a torch.cuda.Event", pair.segment.write, pair.here,
            after="now")
    pair.close()


def main():
    call("cuInit", 0)
    context = handle("cuDevicePrimaryCtxRetain", 0)
    call("cuCtxPushCurrent_v2", context)
    globals()[sys.argv[2]]()


if __name__ == "__main__":
    main()
