"""What calls from Python take, for te_suite: python3 bench/python_costs.py SEGMENT SECONDS.

Over shm, to the engine behind the segment on this host, with ordinary memory. Prints JSON: the
median of one write of 4 KiB that is awaited (write_us), of the submission of 10,000 addresses of
numpy arrays (address_ns, for each), and of a list of 61 x 1,000 blocks of 1 KiB (blocks_ms). What
arrives is read back and compared.
"""
import json
import statistics
import sys
import time

import numpy
import transfer_engine

BLOCK = 4096
ADDRESSES = 10_000
LAYERS, BLOCKS, LAYER_BLOCK = 61, 1_000, 1_024
BYTES = LAYERS * BLOCKS * LAYER_BLOCK


def median_ns(call, seconds):
    """Of what the call returns: the times of its parts that count."""
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or not times:
        times.append(call())
    return statistics.median(times)


def measure(segment, local, seconds):
    small = memoryview(local)[:BLOCK]
    write, now = segment.write, time.perf_counter_ns

    def one_write():
        begin = now()
        for _ in range(100):
            write(small, 0).wait()
        return (now() - begin) / 100

    # Of every second block, or neighbours would be merged.
    steps = numpy.arange(ADDRESSES, dtype=numpy.uint64) * (2 * 512)
    sources = steps + numpy.uint64(local.ctypes.data)
    lengths = numpy.full(ADDRESSES, 512, numpy.uint64)

    def addresses():
        begin = now()
        transfer = write(sources, steps, lengths)
        end = now()
        transfer.wait()
        return (end - begin) / ADDRESSES

    layers = numpy.arange(LAYERS, dtype=numpy.uint64) * (BLOCKS * LAYER_BLOCK)
    regions = numpy.stack([layers + numpy.uint64(local.ctypes.data), layers,
                           numpy.full(LAYERS, LAYER_BLOCK, numpy.uint64)], axis=1)
    order = numpy.arange(BLOCKS, dtype=numpy.uint64) * 7 % BLOCKS

    def blocks():
        begin = now()
        transfer = write(transfer_engine.BlockList(regions, order, order))
        end = now()
        transfer.wait()
        return end - begin

    for warm_up in (one_write, addresses, blocks):
        warm_up()
    return {"write_us": median_ns(one_write, seconds) / 1e3,
            "address_ns": median_ns(addresses, seconds),
            "blocks_ms": median_ns(blocks, seconds) / 1e6}


def main():
    name, seconds = sys.argv[1], float(sys.argv[2])
    local = numpy.random.default_rng(1).integers(0, 256, BYTES, numpy.uint8)
    back = numpy.zeros(BYTES, numpy.uint8)
    with transfer_engine.Engine(host="127.0.0.1") as engine:
        engine.register(local)
        engine.register(back)
        segment = engine.open(name)
        times = measure(segment, local, seconds)
        segment.read(back, 0).wait()
        if not numpy.array_equal(local, back):
            sys.exit("what arrived differs from what was sent")
    print(json.dumps(times))


if __name__ == "__main__":
    main()
