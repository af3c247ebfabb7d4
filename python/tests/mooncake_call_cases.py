"""Cases of everything but transfers, for whoever provides `mooncake.engine`.

Each function is a case. It gets `see`, which takes down what it observes, and `te`, the module.
Observations are plain values without addresses, ports or ids, so they are the same in each run. A
case runs in a process of its own (mooncake_differential.py): it may crash or hang, and what it saw
before counts.
"""
import json
import os
import socket
import time

from mooncake_support import (HOST, P2P, SIZE, Memory, Peer, engine, engine_and_source, pattern,
                              transfers_once)


# --- The module ---

def module_attributes(see, te):
    for name in ("TransferEngine", "TransferOpcode", "TransferNotify", "Read", "Write"):
        see(name, hasattr(te, name))
    for name in ("CUDA", "EFA", "HIP", "INTRA_NVLINK", "MNNVL", "MUSA"):
        see(f"SUPPORT_{name}", getattr(te, f"SUPPORT_{name}"))


def methods(see, te):
    for name in ("initialize", "initialize_ext", "get_rpc_port", "register_memory",
                 "unregister_memory", "batch_register_memory", "batch_unregister_memory",
                 "transfer_sync_write", "transfer_sync_read", "batch_transfer_sync_write",
                 "batch_transfer_sync_read", "transfer_sync", "batch_transfer_sync",
                 "transfer_submit_write", "batch_transfer_async", "batch_transfer_async_write",
                 "batch_transfer_async_read", "transfer_check_status",
                 "get_batch_transfer_status", "get_first_buffer_address",
                 "allocate_managed_buffer", "free_managed_buffer", "write_bytes_to_buffer",
                 "read_bytes_from_buffer", "get_notifies", "send_probe", "get_local_topology",
                 "warmup_efa_segment", "get_engine", "get_engine_ptr", "transfer_write_on_cuda",
                 "transfer_read_on_cuda", "batch_transfer_write_on_cuda"):
        see(name, hasattr(te.TransferEngine, name))


def opcode(see, te):
    for name in ("Read", "Write"):
        value = getattr(te.TransferOpcode, name)
        see(f"int of {name}", int(value))
        see(f"str of {name}", str(value))
        see(f"repr of {name}", repr(value))
        see(f"name of {name}", value.name)
        see(f"value of {name}", value.value)
        see(f"{name} is exported", getattr(te, name) == value)
    see("members", sorted(te.TransferOpcode.__members__))
    see("on the class", te.TransferEngine.TransferOpcode is te.TransferOpcode)
    see("different", te.TransferOpcode.Read != te.TransferOpcode.Write)
    see("equals an int", te.TransferOpcode.Write == 1)
    see("hashable", len({te.TransferOpcode.Read, te.TransferOpcode.Write}))
    see.call("from an int", lambda: te.TransferOpcode(1).name)
    see.call("from another int", lambda: te.TransferOpcode(7).name)


def notify_object(see, te):
    empty = te.TransferNotify()
    see("empty", [empty.name, empty.msg])
    note = te.TransferNotify("layer", "7")
    see("given", [note.name, note.msg])
    note.name, note.msg = "a", "b"
    see("changed", [note.name, note.msg])
    see.call("one argument", lambda: te.TransferNotify("a"))
    see.call("wrong type", lambda: te.TransferNotify(1, 2))
    see.call("argument names", lambda: te.TransferNotify(name="n", msg="m").msg)


# --- initialize ---

def initialize(see, te):
    made = te.TransferEngine()
    see.call("result", made.initialize, HOST, P2P, "tcp", "")
    see.sign("port", made.get_rpc_port)


def initialize_twice(see, te):
    made = te.TransferEngine()
    see.call("first", made.initialize, HOST, P2P, "tcp", "")
    see.call("second", made.initialize, HOST, P2P, "tcp", "")
    see.sign("port", made.get_rpc_port)


def initialize_drops_port(see, te):
    """xLLM passes the port of its own server, and binds it itself."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        port = taken.getsockname()[1]
        made = te.TransferEngine()
        see.call("a taken port", made.initialize, f"{HOST}:{port}", P2P, "tcp", "")
        see("another is used", made.get_rpc_port() != port)
    with Peer(te.__name__) as peer:
        see.call("it works", made.send_probe, peer.session)


def initialize_none_for_device(see, te):
    see.call("result", te.TransferEngine().initialize, HOST, P2P, "tcp", None)


def initialize_none_for_protocol(see, te):
    see.call("result", te.TransferEngine().initialize, HOST, P2P, None, "")


def initialize_none_for_host(see, te):
    see.call("result", te.TransferEngine().initialize, None, P2P, "tcp", "")


def initialize_argument_types(see, te):
    made = te.TransferEngine()
    see.call("named", made.initialize, local_hostname=HOST, metadata_server=P2P, protocol="tcp",
             device_name="")
    see.call("too few", made.initialize, HOST, P2P, "tcp")
    see.call("an int", made.initialize, HOST, P2P, "tcp", 1)


def initialize_ext(see, te):
    see.call("p2p", te.TransferEngine().initialize_ext, HOST, P2P, "tcp", "", "")
    see.call("too few", te.TransferEngine().initialize_ext, HOST, P2P, "tcp", "")


def initialize_unreachable_directory(see, te):
    see.call("result", te.TransferEngine().initialize, HOST, "http://127.0.0.1:1/metadata", "tcp",
             "")


def initialize_unknown_protocol(see, te):
    see.call("result", te.TransferEngine().initialize, HOST, P2P, "pigeon", "")


def initialize_rdma_forced_to_tcp(see, te):
    os.environ["MC_FORCE_TCP"] = "1"
    made = te.TransferEngine()
    see.call("result", made.initialize, HOST, P2P, "rdma", "")
    transfers_once(see, te, made)


def initialize_rdma_without_nics(see, te):
    see.call("result", te.TransferEngine().initialize, HOST, P2P, "rdma", "")


def initialize_host_names(see, te):
    made = te.TransferEngine()
    see.call("localhost", made.initialize, "localhost", P2P, "tcp", "")
    with Peer(te.__name__, host="localhost") as peer:
        see.call("probe", made.send_probe, peer.session)


def initialize_ipv6(see, te):
    os.environ["MC_USE_IPV6"] = "1"
    for host in ("::1", "[::1]"):
        made = te.TransferEngine()
        see.call(f"result of {host}", made.initialize, host, P2P, "tcp", "")
        see.sign(f"port of {host}", made.get_rpc_port)
    with Peer(te.__name__, host="::1", seed=2) as peer:
        source = Memory(SIZE)
        made.register_memory(source.address, SIZE)
        for name, target in (("bare", peer.session), ("bracketed", f"[::1]:{peer.port}")):
            see.call(f"read, {name}", made.transfer_sync_read, target, source.address,
                     peer.address, SIZE)
            see(f"bytes, {name}", source.read() == pattern(SIZE, 2))
            source.write(bytes(SIZE))


def before_initialize_port(see, te):
    see.sign("port", te.TransferEngine().get_rpc_port)


def before_initialize_register(see, te):
    memory = Memory(SIZE)
    see.call("register", te.TransferEngine().register_memory, memory.address, SIZE)


def before_initialize_transfer(see, te):
    memory = Memory(SIZE)
    see.call("write", te.TransferEngine().transfer_sync_write, "127.0.0.1:1", memory.address, 4096,
             8)


def before_initialize_allocate(see, te):
    see.sign("allocate", te.TransferEngine().allocate_managed_buffer, 4096)


def before_initialize_others(see, te):
    made = te.TransferEngine()
    see.call("notifies", made.get_notifies)


# --- Registration ---

def register(see, te):
    made, memory = engine(te), Memory(SIZE)
    see.call("new", made.register_memory, memory.address, SIZE)
    see.call("unregister", made.unregister_memory, memory.address)
    see.call("again", made.register_memory, memory.address, SIZE, "cpu:0")
    see.call("unregister again", made.unregister_memory, memory.address)
    see.call("named", made.register_memory, buffer_addr=memory.address, capacity=SIZE,
             location="*")


def register_same_range_twice(see, te):
    made, memory = engine(te), Memory(SIZE)
    see.call("first", made.register_memory, memory.address, SIZE)
    see.call("second", made.register_memory, memory.address, SIZE)
    see.call("unregister", made.unregister_memory, memory.address)
    see.call("unregister again", made.unregister_memory, memory.address)


def register_overlap(see, te):
    made, memory = engine(te), Memory(SIZE)
    see.call("first", made.register_memory, memory.address, SIZE)
    see.call("inside", made.register_memory, memory.address + 4096, 4096)
    see.call("same start", made.register_memory, memory.address, 4096)


def register_wrong(see, te):
    made, memory = engine(te), Memory(SIZE)
    see.call("unknown address", made.unregister_memory, memory.address)
    see.call("no bytes", made.register_memory, memory.address, 0)
    see.call("a float", made.register_memory, 1.5, 4096)
    see.call("negative", made.register_memory, -1, 4096)
    see.call("a str", made.register_memory, "x", 4096)
    see.call("2^64", made.register_memory, 1 << 64, 4096)
    see.call("location is None", made.register_memory, memory.address, SIZE, None)


def register_unmapped(see, te):
    made = engine(te)
    see.call("null", made.register_memory, 0, 4096)
    see.call("unmapped", made.register_memory, 4096, 4096)


def register_batch(see, te):
    made = engine(te)
    memories = [Memory(SIZE) for _ in range(3)]
    addresses = [memory.address for memory in memories]
    see.call("none", made.batch_register_memory, [], [])
    see.call("three", made.batch_register_memory, addresses, [SIZE] * 3)
    see.call("a tuple", made.batch_unregister_memory, tuple(addresses))
    see.call("named", made.batch_register_memory, buffer_addresses=addresses,
             capacities=[SIZE] * 3, location="cpu:0")
    see.call("unregister", made.batch_unregister_memory, addresses)
    see.call("unregister none", made.batch_unregister_memory, [])
    see.call("unregister unknown", made.batch_unregister_memory, addresses)


def register_batch_lengths_differ(see, te):
    made = engine(te)
    memories = [Memory(SIZE) for _ in range(3)]
    see.call("too few lengths", made.batch_register_memory,
             [memory.address for memory in memories], [SIZE])


def register_batch_same_address_twice(see, te):
    """Tied weights give the same address twice."""
    made, memory = engine(te), Memory(SIZE)
    see.call("register", made.batch_register_memory, [memory.address] * 2, [SIZE] * 2)


def several_engines_one_memory(see, te):
    """lmdeploy has an engine for each link, and registers the same memory with all."""
    memory = Memory(SIZE, 4)
    engines = [engine(te) for _ in range(3)]
    for number, made in enumerate(engines):
        see.call(f"register {number}", made.register_memory, memory.address, SIZE)
    with Peer(te.__name__) as peer:
        for number, made in enumerate(engines):
            see.call(f"write {number}", made.transfer_sync_write, peer.session,
                     memory.address + number * 4096, peer.address + number * 4096, 4096)
        see("bytes", peer.read(0, 3 * 4096) == memory.read(0, 3 * 4096))
    see.call("unregister", engines[0].unregister_memory, memory.address)


# --- Peers, notifications, buffers, the rest ---

def first_buffer(see, te):
    made = engine(te)
    with Peer(te.__name__) as peer:
        see("address", made.get_first_buffer_address(peer.session) == peer.address)
        see.call("of None", made.get_first_buffer_address, None)
    with Peer(te.__name__, register=False) as peer:
        see.call("no buffer", made.get_first_buffer_address, peer.session)


def first_buffer_unknown_peer(see, te):
    made = engine(te)
    see.call("nobody listens", made.get_first_buffer_address, "127.0.0.1:1")


def probe(see, te):
    made = engine(te)
    with Peer(te.__name__) as peer:
        see.call("alive", made.send_probe, peer.session)
        see.call("named", made.send_probe, peer_server_name=peer.session)
        peer.kill()
        see("gone", made.send_probe(peer.session) != 0)
    for label, name in (("nobody listens", "127.0.0.1:1"), ("empty", ""), ("no port", "x"),
                        ("no such host", "no-such.invalid:5")):
        try:
            see(label, made.send_probe(name) != 0)
        except Exception as error:
            see(label, type(error).__name__)


def notifications(see, te):
    made, source = engine_and_source(te)
    write = te.TransferOpcode.Write
    with Peer(te.__name__) as peer:
        see("none", peer.notifies())
        see.call("with data", made.transfer_sync, peer.session, source.address, peer.address, 64,
                 write, te.TransferNotify("request-1", "done"))
        see.call("with a batch", made.batch_transfer_sync, peer.session, [source.address],
                 [peer.address], [64], write, te.TransferNotify("request-2", "münchen"))
        time.sleep(0.5)
        see("arrived", peer.notifies())
        see("taken", peer.notifies())
        see.call("a tuple", made.transfer_sync, peer.session, source.address, peer.address, 64,
                 write, ("a", "b"))
    see.call("own", made.get_notifies)


def managed_buffers(see, te):
    made = engine(te)
    address = made.allocate_managed_buffer(4096)
    see("allocated", address > 0)
    see.call("write str", made.write_bytes_to_buffer, address, "text", 4)
    see.bytes("read str", made.read_bytes_from_buffer, address, 4)
    see.call("write bytes", made.write_bytes_to_buffer, address, b"a\0b\xff", 4)
    see.bytes("read bytes", made.read_bytes_from_buffer, address, 4)
    see.call("write part", made.write_bytes_to_buffer, address, b"xyz", 2)
    see.bytes("read part", made.read_bytes_from_buffer, address, 4)
    see.call("write an int", made.write_bytes_to_buffer, address, 5, 1)
    see.bytes("read none", made.read_bytes_from_buffer, address, 0)
    with Peer(te.__name__) as peer:
        see.call("transfer", made.transfer_sync_write, peer.session, address, peer.address, 4096)
        see("bytes", peer.read(0, 4096) == made.read_bytes_from_buffer(address, 4096))
    see.call("free", made.free_managed_buffer, address, 4096)
    see.sign("1 byte", made.allocate_managed_buffer, 1)
    see.sign("300 MiB", made.allocate_managed_buffer, 300 << 20)
    see.call("negative", made.allocate_managed_buffer, -1)


def managed_buffers_of_a_target(see, te):
    """As Mooncake's own demonstrations do it."""
    made = engine(te)
    with Peer(te.__name__, register=False) as peer:
        there = peer.call("allocate_managed_buffer", 1 << 20)
        here = made.allocate_managed_buffer(1 << 20)
        made.write_bytes_to_buffer(here, b"hello", 5)
        see.call("write", made.transfer_sync_write, peer.session, here, there, 1 << 20)
        made.write_bytes_to_buffer(here, b"-----", 5)
        see.call("read", made.transfer_sync_read, peer.session, here, there, 1 << 20)
        see.bytes("bytes", made.read_bytes_from_buffer, here, 5)


def managed_buffer_of_no_bytes(see, te):
    see.sign("address", engine(te).allocate_managed_buffer, 0)


def managed_buffer_freed_twice(see, te):
    made = engine(te)
    address = made.allocate_managed_buffer(4096)
    see.call("first", made.free_managed_buffer, address, 4096)
    see.call("second", made.free_managed_buffer, address, 4096)


def managed_buffer_freed_with_other_length(see, te):
    made = engine(te)
    see.call("free", made.free_managed_buffer, made.allocate_managed_buffer(4096), 1 << 20)


def managed_buffer_unknown(see, te):
    see.call("free", engine(te).free_managed_buffer, 4096, 4096)


def write_more_bytes_than_given(see, te):
    made = engine(te)
    address = made.allocate_managed_buffer(1 << 26)
    see.call("write", made.write_bytes_to_buffer, address, b"abc", 1 << 26)


def topology(see, te):
    made = engine(te)
    see("own", isinstance(json.loads(made.get_local_topology()), dict))
    see("of no device", isinstance(json.loads(made.get_local_topology(None)), dict))
    see("of a device", isinstance(json.loads(made.get_local_topology("mlx5_0")), dict))
    see("named", isinstance(json.loads(made.get_local_topology(device_name="")), dict))
    see("before initialize",
        isinstance(json.loads(te.TransferEngine().get_local_topology()), dict))


def warmup(see, te):
    made = engine(te)
    with Peer(te.__name__) as peer:
        see.call("alive", made.warmup_efa_segment, peer.session)
        see.call("named", made.warmup_efa_segment, segment_name=peer.session)
    see.call("nobody listens", made.warmup_efa_segment, "127.0.0.1:1")


def inner_engine(see, te):
    see.call("object", lambda: type(engine(te).get_engine()).__name__)


def inner_engine_pointer(see, te):
    see.sign("pointer", engine(te).get_engine_ptr)


def threads(see, te):
    """vLLM and SGLang send from many threads over one engine."""
    import concurrent.futures
    made, source = engine(te), Memory(1 << 20, 1)
    made.register_memory(source.address, 1 << 20)
    with Peer(te.__name__, size=1 << 20) as peer:
        def send(part):
            first = part * (1 << 16)
            here = [source.address + first + 4096 * i for i in range(16)]
            there = [peer.address + first + 4096 * i for i in range(16)]
            return made.batch_transfer_sync_write(peer.session, here, there, [4096] * 16)

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            see("results", sorted(set(pool.map(send, list(range(16)) * 4))))
        see("bytes", peer.read() == source.read())


def releases_gil(see, te):
    """Another thread runs while a call waits for a stopped peer to tell what it has."""
    import threading
    os.environ["MC_TRANSFER_TIMEOUT"] = "5"
    made, source = engine_and_source(te)
    with Peer(te.__name__) as peer:
        peer.stop()
        waiting = threading.Thread(target=made.transfer_sync_read, args=(
            peer.session, source.address, peer.address, 64))
        begin = time.monotonic()
        waiting.start()
        time.sleep(0.5)
        see("ran meanwhile", waiting.is_alive() and time.monotonic() - begin < 3)
        peer.go_on()
        waiting.join()
