"""Cases of transfers, for whoever provides `mooncake.engine`; see mooncake_call_cases.py."""
import os
import socket
import time

from mooncake_support import (HOST, SIZE, Memory, Peer, engine, engine_and_source, pattern, poll,
                              session, transfers_once)


# --- Synchronous transfers ---

def sync(see, te):
    transfers_once(see, te, engine(te))


def sync_argument_forms(see, te):
    made, source = engine_and_source(te)
    with Peer(te.__name__) as peer:
        see.call("hint", made.transfer_sync_write, peer.session, source.address, peer.address, 64,
                 "tcp")
        see.call("unknown hint", made.transfer_sync_write, peer.session, source.address,
                 peer.address, 64, "pigeon")
        see.call("named", made.transfer_sync_write, target_hostname=peer.session,
                 buffer=source.address, peer_buffer_address=peer.address, length=64,
                 transport_hint="")
        see.call("a float", made.transfer_sync_write, peer.session, 1.5, peer.address, 64)
        see.call("negative", made.transfer_sync_write, peer.session, -1, peer.address, 64)
        see.call("negative length", made.transfer_sync_write, peer.session, source.address,
                 peer.address, -1)
        see.call("no bytes", made.transfer_sync_write, peer.session, source.address, peer.address,
                 0)
        see.call("target is None", made.transfer_sync_write, None, source.address, peer.address, 64)
        see.call("target is bytes", made.transfer_sync_write, peer.session.encode(),
                 source.address, peer.address, 64)


def sync_numpy_scalars(see, te):
    import numpy
    made, source = engine_and_source(te)
    with Peer(te.__name__) as peer:
        see.call("result", made.transfer_sync_write, peer.session, numpy.uint64(source.address),
                 numpy.int64(peer.address), numpy.int64(64))
        see("bytes", peer.read(0, 64) == source.read(0, 64))


def sync_unregistered_source(see, te):
    made, source = engine(te), Memory(SIZE, 1)
    with Peer(te.__name__, seed=2) as peer:
        see.call("write", made.transfer_sync_write, peer.session, source.address + 100,
                 peer.address, 4096)
        see("written", peer.read(0, 4096) == pattern(SIZE, 1)[100:4196])
        see.call("read", made.transfer_sync_read, peer.session, source.address,
                 peer.address + 8192, 4096)
        see("read bytes", source.read(0, 4096) == pattern(SIZE, 2)[8192:12288])
        see.call("register later", made.register_memory, source.address, SIZE)
        see.call("write again", made.transfer_sync_write, peer.session, source.address,
                 peer.address, SIZE)
        see("written again", peer.read() == source.read())


def sync_source_partly_registered(see, te):
    made, source = engine(te), Memory(SIZE, 1)
    made.register_memory(source.address + 4096, 4096)
    with Peer(te.__name__) as peer:
        see.call("write", made.transfer_sync_write, peer.session, source.address, peer.address,
                 16384)
        see("written", peer.read(0, 16384) == source.read(0, 16384))


def sync_unmapped_source(see, te):
    made = engine(te)
    with Peer(te.__name__) as peer:
        see.call("write", made.transfer_sync_write, peer.session, 4096, peer.address, 4096)


def sync_outside_target(see, te):
    made, source = engine(te), Memory(2 * SIZE, 1)
    made.register_memory(source.address, 2 * SIZE)
    with Peer(te.__name__, seed=2) as peer:
        see.call("beyond the end", made.transfer_sync_write, peer.session, source.address,
                 peer.address, SIZE + 4096)
        see.call("below", made.transfer_sync_write, peer.session, source.address,
                 peer.address - 4096, 4096)
        see.call("offset 0", made.transfer_sync_write, peer.session, source.address, 0, 64)
        see("untouched", peer.read() == pattern(SIZE, 2))
        see.call("inside, after that", made.transfer_sync_write, peer.session, source.address,
                 peer.address, 64)


def sync_unregistered_target(see, te):
    made, source = engine_and_source(te)
    with Peer(te.__name__, seed=2, register=False) as peer:
        see.call("write", made.transfer_sync_write, peer.session, source.address, peer.address, 64)
        see("untouched", peer.read() == pattern(SIZE, 2))
        see.call("target registers", peer.call, "register_memory", peer.address, SIZE)
        see.call("write after that", made.transfer_sync_write, peer.session, source.address,
                 peer.address, 64)
        see.call("target unregisters", peer.call, "unregister_memory", peer.address)
        see.call("write at the end", made.transfer_sync_write, peer.session, source.address,
                 peer.address, 64)


def sync_unknown_targets(see, te):
    made, source = engine_and_source(te)
    with socket.socket() as free:
        free.bind((HOST, 0))
        refused = session(HOST, free.getsockname()[1])
    for label, target in (("nobody listens", refused), ("no port", HOST), ("empty", ""),
                          ("no number", "127.0.0.1:x"), ("no such host", "no-such.invalid:5")):
        see.call(label, made.transfer_sync_write, target, source.address, 4096, 64)


def sync_itself(see, te):
    made, memory = engine(te), Memory(SIZE, 1)
    made.register_memory(memory.address, SIZE)
    me = session(HOST, made.get_rpc_port())
    see.call("write", made.transfer_sync_write, me, memory.address, memory.address + 8192, 4096)
    see("bytes", memory.read(8192, 4096) == memory.read(0, 4096))
    see.call("probe", made.send_probe, me)
    see("first buffer", made.get_first_buffer_address(me) == memory.address)


def sync_target_ends(see, te):
    os.environ["MC_TRANSFER_TIMEOUT"] = "5"
    made, source = engine_and_source(te)
    with Peer(te.__name__) as peer:
        see.call("before", made.transfer_sync_write, peer.session, source.address, peer.address,
                 64)
        peer.kill()
        see.call("after", made.transfer_sync_write, peer.session, source.address, peer.address, 64)
        see.call("batch after", made.batch_transfer_sync_write, peer.session,
                 [source.address] * 2, [peer.address] * 2, [64] * 2)
    with Peer(te.__name__) as peer:
        see.call("another", made.transfer_sync_write, peer.session, source.address, peer.address,
                 64)


def sync_target_stopped(see, te):
    os.environ["MC_TRANSFER_TIMEOUT"] = "5"
    made, source = engine_and_source(te)
    with Peer(te.__name__) as peer:
        see.call("before", made.transfer_sync_write, peer.session, source.address, peer.address,
                 64)
        peer.stop()
        begin = time.monotonic()
        see.call("stopped", made.transfer_sync_read, peer.session, source.address, peer.address,
                 64)
        took = time.monotonic() - begin
        see("at the deadline", 4.5 < took < 7)
        peer.go_on()
        see.call("afterwards", made.transfer_sync_write, peer.session, source.address,
                 peer.address, 64)


# --- Synchronous batches ---

def batch_sync(see, te):
    made, source = engine_and_source(te)
    places = [0, 8192, 4096, 30000]
    lengths = [4096, 100, 1, 4000]
    with Peer(te.__name__, seed=2) as peer:
        here = [source.address + place for place in places]
        there = [peer.address + place for place in places]
        see.call("write", made.batch_transfer_sync_write, peer.session, here, there, lengths)
        expected = bytearray(pattern(SIZE, 2))
        for place, length in zip(places, lengths):
            expected[place:place + length] = pattern(SIZE, 1)[place:place + length]
        see("written", peer.read() == bytes(expected))
        source.write(bytes(SIZE))
        see.call("read", made.batch_transfer_sync_read, peer.session, here, there, lengths)
        see("read bytes", all(source.read(p, n) == expected[p:p + n]
                              for p, n in zip(places, lengths)))
        see("nothing else", source.read(4097, 4095) == bytes(4095))


def batch_sync_argument_forms(see, te):
    import numpy
    made, source = engine_and_source(te)
    with Peer(te.__name__) as peer:
        write = made.batch_transfer_sync_write
        here, there = [source.address] * 2, [peer.address] * 2
        see.call("none", write, peer.session, [], [], [])
        see.call("tuples", write, peer.session, tuple(here), tuple(there), (64, 64))
        see.call("fewer targets", write, peer.session, here, there[:1], [64, 64])
        see.call("fewer lengths", write, peer.session, here, there, [64])
        see.call("fewer sources", write, peer.session, here[:1], there, [64, 64])
        see.call("numpy uint64", write, peer.session, numpy.array(here, dtype=numpy.uint64),
                 numpy.array(there, dtype=numpy.uint64), numpy.array([64, 64], numpy.uint64))
        see.call("numpy int64", write, peer.session, numpy.array(here, dtype=numpy.int64),
                 numpy.array(there, dtype=numpy.int64), numpy.array([64, 64], numpy.int64))
        see.call("a list of numpy scalars", write, peer.session, list(numpy.array(here)),
                 list(numpy.array(there)), list(numpy.array([64, 64])))
        see.call("named", write, target_hostname=peer.session, buffers=here,
                 peer_buffer_addresses=there, lengths=[64, 64], transport_hint="tcp")
        see.call("a float in it", write, peer.session, [1.5], there[:1], [64])
        see.call("a negative in it", write, peer.session, [-1], there[:1], [64])
        see.call("an int", write, peer.session, here[0], there[0], 64)
        see.call("a generator", write, peer.session, (x for x in here), there, [64, 64])
        see.call("zero lengths in it", write, peer.session, here, there, [0, 64])


def batch_sync_one_wrong(see, te):
    made, source = engine_and_source(te)
    with Peer(te.__name__) as peer:
        see.call("one target outside", made.batch_transfer_sync_write, peer.session,
                 [source.address] * 2, [peer.address, 4096], [64, 64])


def batch_sync_unregistered_sources(see, te):
    made = engine(te)
    sources = [Memory(4096, seed) for seed in range(20)]
    with Peer(te.__name__, size=20 * 4096) as peer:
        see.call("write", made.batch_transfer_sync_write, peer.session,
                 [memory.address for memory in sources],
                 [peer.address + 4096 * i for i in range(20)], [4096] * 20)
        see("bytes", peer.read() == b"".join(memory.read() for memory in sources))


def batch_sync_many(see, te):
    made, source = engine(te), Memory(1 << 20, 1)
    made.register_memory(source.address, 1 << 20)
    count = 1 << 14
    with Peer(te.__name__, size=1 << 20) as peer:
        here = [source.address + 64 * i for i in range(count)]
        there = [peer.address + 64 * (count - 1 - i) for i in range(count)]
        see.call("write", made.batch_transfer_sync_write, peer.session, here, there, [64] * count)
        data = source.read()
        see("bytes", peer.read() == b"".join(data[64 * i:64 * i + 64]
                                             for i in reversed(range(count))))


def either_opcode(see, te):
    made, source = engine_and_source(te)
    read, write = te.TransferOpcode.Read, te.TransferOpcode.Write
    with Peer(te.__name__, seed=2) as peer:
        see.call("write", made.transfer_sync, peer.session, source.address, peer.address, 64,
                 write)
        see("written", peer.read(0, 64) == pattern(64, 1))
        see.call("read", made.transfer_sync, peer.session, source.address + 4096,
                 peer.address + 4096, 64, read)
        see("read bytes", source.read(4096, 64) == pattern(SIZE, 2)[4096:4160])
        see.call("batch write", made.batch_transfer_sync, peer.session, [source.address + 8192],
                 [peer.address + 8192], [64], write)
        see("batch written", peer.read(8192, 64) == pattern(SIZE, 1)[8192:8256])
        see.call("opcode 1", made.transfer_sync, peer.session, source.address, peer.address, 64, 1)
        see.call("opcode None", made.transfer_sync, peer.session, source.address, peer.address, 64,
                 None)
        see.call("named", made.transfer_sync, target_hostname=peer.session, buffer=source.address,
                 peer_buffer_address=peer.address, length=64, opcode=write, notify=None,
                 transport_hint="")


# --- Asynchronous transfers ---

def submit_write(see, te):
    made, source = engine_and_source(te)
    with Peer(te.__name__) as peer:
        batch = see.id("submit", made.transfer_submit_write, peer.session, source.address,
                       peer.address, SIZE)
        see("status", poll(made, batch))
        see("bytes", peer.read() == source.read())


def async_batches(see, te):
    made, source = engine_and_source(te)
    with Peer(te.__name__, seed=2) as peer:
        here = [source.address + 4096 * i for i in range(4)]
        there = [peer.address + 4096 * i for i in range(4)]
        for name, submit, more in (
                ("write", made.batch_transfer_async_write, ()),
                ("read", made.batch_transfer_async_read, ()),
                ("either", made.batch_transfer_async, (te.TransferOpcode.Write,))):
            batch = see.id(name, submit, peer.session, here, there, [4096] * 4, *more)
            see(f"status of {name}", poll(made, batch))
        see("bytes", peer.read(0, 16384) == source.read(0, 16384))


def async_ids_differ(see, te):
    made, source = engine_and_source(te)
    with Peer(te.__name__) as peer:
        ids = [made.transfer_submit_write(peer.session, source.address, peer.address, 64)
               for _ in range(100)]
        see("different", len(set(ids)) == 100)
        see("all accepted", all(0 < batch < 1 << 63 for batch in ids))
        see.call("all", made.get_batch_transfer_status, ids)


def async_status_twice(see, te):
    made, source = engine_and_source(te)
    with Peer(te.__name__) as peer:
        batch = made.transfer_submit_write(peer.session, source.address, peer.address, 64)
        see("first", poll(made, batch))
        see("second", poll(made, batch))
        see.call("with the others", made.get_batch_transfer_status, [batch])


def async_unknown_ids(see, te):
    made = engine(te)
    see.call("check 12345", made.transfer_check_status, 12345)


def async_unknown_id_zero(see, te):
    made = engine(te)
    see.call("check 0", made.transfer_check_status, 0)


def async_unknown_ids_waited_for(see, te):
    made = engine(te)
    see.call("none", made.get_batch_transfer_status, [])
    see.call("wait for 12345", made.get_batch_transfer_status, [12345])


def async_id_types(see, te):
    made = engine(te)
    see.call("check a str", made.transfer_check_status, "1")
    see.call("check a negative", made.transfer_check_status, -1)
    see.call("wait for an int", made.get_batch_transfer_status, 1)


def async_failures(see, te):
    os.environ["MC_TRANSFER_TIMEOUT"] = "5"
    made, source = engine_and_source(te)
    with socket.socket() as free:
        free.bind((HOST, 0))
        refused = session(HOST, free.getsockname()[1])
    see.call("nobody listens", made.transfer_submit_write, refused, source.address, 4096, 64)
    see.call("batch, nobody listens", made.batch_transfer_async_write, refused, [source.address],
             [4096], [64])
    with Peer(te.__name__) as peer:
        see.call("lengths differ", made.batch_transfer_async_write, peer.session,
                 [source.address] * 2, [peer.address], [64])
        see.id("none", made.batch_transfer_async_write, peer.session, [], [], [])


def async_outside_target(see, te):
    os.environ["MC_TRANSFER_TIMEOUT"] = "5"
    made, source = engine_and_source(te)
    with Peer(te.__name__) as peer:
        batch = made.transfer_submit_write(peer.session, source.address, 4096, 64)
        see("status", -1 if batch == 0 else poll(made, batch))


def async_one_of_batch_outside(see, te):
    """The first task is right, the second is not."""
    os.environ["MC_TRANSFER_TIMEOUT"] = "5"
    made, source = engine_and_source(te)
    with Peer(te.__name__) as peer:
        batch = made.batch_transfer_async_write(
            peer.session, [source.address] * 2, [peer.address, 4096], [64] * 2)
        see("status", -1 if batch == 0 else poll(made, batch))


def async_target_stopped(see, te):
    os.environ["MC_TRANSFER_TIMEOUT"] = "5"
    made, source = engine_and_source(te)
    with Peer(te.__name__) as peer:
        made.transfer_sync_write(peer.session, source.address, peer.address, 64)
        peer.stop()
        batch = made.batch_transfer_async_read(peer.session, [source.address], [peer.address],
                                               [64])
        see.call("at once", made.transfer_check_status, batch)
        see("at the end", poll(made, batch, 12))
        see("repeated", poll(made, batch, 1))


def async_wait_for_several(see, te):
    made, source = engine_and_source(te)
    with Peer(te.__name__) as first, Peer(te.__name__) as second:
        ids = [made.batch_transfer_async_write(peer.session, [source.address], [peer.address],
                                               [SIZE]) for peer in (first, second)]
        see.call("both", made.get_batch_transfer_status, ids)
        see("bytes", [peer.read() == source.read() for peer in (first, second)])
