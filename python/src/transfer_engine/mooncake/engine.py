"""The contents of Mooncake's module `mooncake.engine`.

Calls return what Mooncake's return: 0, or a negative number; an id, or 0. Why a call failed is
logged, by the logger "transfer_engine.mooncake". They raise only if an argument has the wrong type.
Every method may be called from any thread, and releases the GIL while it works.

Addresses, lengths and ids are ints. Lists of them may be lists, tuples or, without a Python object
for each number, contiguous arrays of 8-byte integers, such as those of numpy.
"""
from __future__ import annotations

import enum
import ipaddress
import itertools
import json
import logging
import operator
import random
import threading
from collections.abc import Sequence
from typing import Any

import transfer_engine as te

from . import environment, unregistered

__all__ = ["SUPPORT_CUDA", "SUPPORT_EFA", "SUPPORT_HIP", "SUPPORT_INTRA_NVLINK", "SUPPORT_MNNVL",
           "SUPPORT_MUSA", "Read", "TransferEngine", "TransferNotify", "TransferOpcode", "Write"]

logger = logging.getLogger("transfer_engine.mooncake")

# What Mooncake's wheel was built with. Clients ask before they use calls that are not here.
SUPPORT_CUDA = False
SUPPORT_EFA = False
SUPPORT_HIP = False
SUPPORT_INTRA_NVLINK = False
SUPPORT_MNNVL = False
SUPPORT_MUSA = False

P2P = "P2PHANDSHAKE"
# Batches whose status is remembered; older ones are forgotten, unless they are in flight.
BATCHES_MAX = 65536
# Ports to try before initialize() gives up.
PORTS_MAX = 500
# Mooncake's numbers for errors that have one; -1 for all others.
NOT_REGISTERED, OVERLAP = -3, -7
COMPLETED, PENDING, FAILED, TIMED_OUT = 1, 0, -1, -2


class TransferOpcode(enum.Enum):
    Read = 0
    Write = 1
    READ = 0  # as Mooncake's documentation spells them
    WRITE = 1

    def __int__(self) -> int:
        return self.value

    __index__ = __int__


Read, Write = TransferOpcode.Read, TransferOpcode.Write


class TransferNotify:
    """A message for the target, which get_notifies() returns there."""

    __slots__ = ("name", "msg")

    def __init__(self, name: str = "", msg: str | None = None) -> None:
        if msg is None:
            if name != "":
                raise TypeError("TransferNotify takes no arguments, or name and msg")
            msg = ""
        _require_text(name=name, msg=msg)
        self.name = name
        self.msg = msg


class TransferEngine:
    """One engine. Nothing can be transferred before initialize().

    Every `transport_hint` is ignored: the engine chooses the path.
    """

    def __init__(self) -> None:
        self._engine: te.Engine | None = None
        self._segments: dict[str | bytes, te.Segment] = {}
        self._timeout_s = 30.0
        self._peer_to_peer = True
        self._efa = False
        self._ids = itertools.count(1)
        # A batch in flight, or how it ended; `_lock` for whoever adds or removes one.
        self._batches: dict[int, Any] = {}
        self._lock = threading.Lock()
        self._buffers: dict[int, te.Memory] = {}
        self._warned = False

    # --- The engine ---

    def initialize(self, local_hostname: str, metadata_server: str, protocol: str,
                   device_name: str | None, /) -> int:
        """Starts the engine; 0 or -1.

        With the metadata server "P2PHANDSHAKE", peers reach it as local_hostname:get_rpc_port(). A
        port in `local_hostname` is dropped, as Mooncake does. `protocol` is what is used, or the
        call fails: "tcp", "rdma", "efa". `device_name`: NICs to use, separated by commas.
        """
        _require_text(local_hostname=local_hostname, metadata_server=metadata_server,
                      protocol=protocol)
        if device_name is not None:
            _require_text(device_name=device_name)
        try:
            variables = environment.read()
            protocol = variables.protocol or protocol
            engine = _create(local_hostname, metadata_server, device_name or "", variables)
            _install(engine, protocol, variables.nic_priority_matrix)
        except (te.TransferEngineError, OSError, ValueError) as error:
            return self._failed("initialize", error)
        self._segments, self._buffers = {}, {}
        self._engine = engine
        self._timeout_s = variables.timeout_s
        self._peer_to_peer = metadata_server == P2P
        self._efa = protocol == "efa"
        return 0

    def initialize_ext(self, local_hostname: str, metadata_server: str, protocol: str,
                       device_name: str | None, metadata_type: str, /) -> int:
        """initialize(), with the kind of the metadata server, such as "etcd", by itself."""
        _require_text(metadata_server=metadata_server, metadata_type=metadata_type)
        if metadata_type and "://" not in metadata_server and metadata_server != P2P:
            metadata_server = f"{metadata_type}://{metadata_server}"
        return self.initialize(local_hostname, metadata_server, protocol, device_name)

    def get_rpc_port(self) -> int:
        """The port at which peers reach this engine; 0 before initialize()."""
        return 0 if self._engine is None else self._engine.port

    def get_local_topology(self, device_name: str | None = None) -> str:
        """Which NICs serve which memory, as JSON. `device_name`: only these NICs."""
        try:
            if device_name is None and self._engine is not None:
                return json.dumps(self._engine.nic_priority_matrix())
            with te.Engine(settings={"nics": device_name or ""}) as engine:
                return json.dumps(engine.nic_priority_matrix())
        except te.TransferEngineError as error:
            return self._failed("get_local_topology", error, "{}")

    def get_engine(self) -> None:
        """Not here: Mooncake gives a C++ object to its own store."""
        raise NotImplementedError(
            "Mooncake's store needs Mooncake's own engine: transfer_engine.mooncake has the "
            "Transfer Engine only. Give the store a TransferEngine of Mooncake's package.")

    get_engine_ptr = get_engine

    # --- Memory ---

    def register_memory(self, buffer_addr: int, capacity: int, location: str = "*") -> int:
        """0 or negative. A range that is registered already is counted."""
        _require_text(location=location)
        return self._memory_call("register_memory", "register", _number(buffer_addr),
                                 _number(capacity), location=location)

    def unregister_memory(self, buffer_addr: int, /) -> int:
        """0 or negative. Waits until no transfer touches the memory."""
        return self._memory_call("unregister_memory", "unregister", _number(buffer_addr))

    def batch_register_memory(self, buffer_addresses: Sequence[int], capacities: Sequence[int],
                              location: str = "*") -> int:
        """0, or negative and nothing is registered."""
        _require_text(location=location)
        return self._memory_call("batch_register_memory", "register_batch",
                                 _plain(buffer_addresses), _plain(capacities), location=location)

    def batch_unregister_memory(self, buffer_addresses: Sequence[int], /) -> int:
        """0, or negative and all stay registered."""
        return self._memory_call("batch_unregister_memory", "unregister_batch",
                                 _plain(buffer_addresses))

    def allocate_managed_buffer(self, length: int, /) -> int:
        """The address of zeroed, registered memory; 0 if there is none."""
        length = _number(length)
        try:
            memory = self._running().allocate(max(1, length))
        except te.TransferEngineError as error:
            return self._failed("allocate_managed_buffer", error, 0)
        self._buffers[memory.address] = memory
        return memory.address

    def free_managed_buffer(self, buffer_addr: int, length: int, /) -> int:
        """0, or -1 if the address is not that of a managed buffer."""
        memory = self._buffers.pop(_number(buffer_addr), None)
        if memory is None:
            return self._failed("free_managed_buffer",
                                f"no managed buffer begins at {buffer_addr:#x}")
        try:
            memory.free()
        except te.TransferEngineError as error:
            self._buffers[buffer_addr] = memory
            return self._failed("free_managed_buffer", error)
        return 0

    def write_bytes_to_buffer(self, dest_address: int, src_ptr: str | bytes, length: int, /) -> int:
        """Copies the first `length` bytes of `src_ptr` to an address; 0 or -1."""
        data = src_ptr.encode() if isinstance(src_ptr, str) else src_ptr
        if not isinstance(data, bytes):
            raise TypeError(f"src_ptr takes str or bytes, not {type(src_ptr).__name__}")
        if _number(length) > len(data):
            return self._failed("write_bytes_to_buffer",
                                f"{length} bytes were asked for, and {len(data)} given")
        try:
            unregistered.copy_in(_number(dest_address), data, length)
        except OSError as error:
            return self._failed("write_bytes_to_buffer", error)
        return 0

    def read_bytes_from_buffer(self, source_address: int, length: int, /) -> bytes:
        """The bytes at an address; none if they cannot be read."""
        try:
            return unregistered.copy_out(_number(source_address), _number(length))
        except OSError as error:
            return self._failed("read_bytes_from_buffer", error, b"")

    # --- Peers ---

    def get_first_buffer_address(self, segment_name: str, /) -> int:
        """The address of the first buffer that a peer has registered; 0 if there is none."""
        _require_text(segment_name=segment_name)
        try:
            with self._running().open(self._peer(segment_name), refresh=True) as segment:
                buffers = segment.describe().buffers
        except te.TransferEngineError as error:
            return self._failed("get_first_buffer_address", error, 0)
        return buffers[0].address if buffers else 0

    def send_probe(self, peer_server_name: str) -> int:
        """0 if the peer answers, else -1."""
        _require_text(peer_server_name=peer_server_name)
        try:
            self._running().probe(self._peer(peer_server_name), 1)
        except te.TransferEngineError as error:
            return self._failed("send_probe", error)
        return 0

    def warmup_efa_segment(self, segment_name: str) -> int:
        """Connects to a peer before the first transfer, over EFA; 0 or -1. 0 without EFA."""
        _require_text(segment_name=segment_name)
        if not self._efa:
            return 0
        try:
            self._running().warmup(self._peer(segment_name))
        except te.TransferEngineError as error:
            return self._failed("warmup_efa_segment", error)
        return 0

    def get_notifies(self) -> list[TransferNotify]:
        """Takes the notifications that have arrived."""
        try:
            taken = self._running().take_notifications()
        except te.TransferEngineError as error:
            return self._failed("get_notifies", error, [])
        return [TransferNotify(note.name, note.message.decode(errors="surrogateescape"))
                for note in taken]

    # --- Transfers that return when the bytes are in place: 0 or -1 ---

    def transfer_sync_write(self, target_hostname: str, buffer: int, peer_buffer_address: int,
                            length: int, transport_hint: str = "") -> int:
        """Moves `length` bytes from `buffer` to the peer."""
        return self._wait(self._one(True, target_hostname, buffer, peer_buffer_address, length))

    def transfer_sync_read(self, target_hostname: str, buffer: int, peer_buffer_address: int,
                           length: int, transport_hint: str = "") -> int:
        """Moves `length` bytes from the peer to `buffer`."""
        return self._wait(self._one(False, target_hostname, buffer, peer_buffer_address, length))

    def transfer_sync(self, target_hostname: str, buffer: int, peer_buffer_address: int,
                      length: int, opcode: TransferOpcode, notify: TransferNotify | None = None,
                      transport_hint: str = "") -> int:
        """Either; then `notify` goes to the peer."""
        return self._wait(self._one(_is_write(opcode), target_hostname, buffer,
                                    peer_buffer_address, length, notify))

    def batch_transfer_sync_write(self, target_hostname: str, buffers: Sequence[int],
                                  peer_buffer_addresses: Sequence[int], lengths: Sequence[int],
                                  transport_hint: str = "") -> int:
        """Moves lengths[i] bytes from buffers[i] to peer_buffer_addresses[i], for each i."""
        return self._wait(self._list(True, target_hostname, buffers, peer_buffer_addresses,
                                     lengths))

    def batch_transfer_sync_read(self, target_hostname: str, buffers: Sequence[int],
                                 peer_buffer_addresses: Sequence[int], lengths: Sequence[int],
                                 transport_hint: str = "") -> int:
        """Moves lengths[i] bytes from peer_buffer_addresses[i] to buffers[i], for each i."""
        return self._wait(self._list(False, target_hostname, buffers, peer_buffer_addresses,
                                     lengths))

    def batch_transfer_sync(self, target_hostname: str, buffers: Sequence[int],
                            peer_buffer_addresses: Sequence[int], lengths: Sequence[int],
                            opcode: TransferOpcode, notify: TransferNotify | None = None,
                            transport_hint: str = "") -> int:
        """Either; then `notify` goes to the peer."""
        return self._wait(self._list(_is_write(opcode), target_hostname, buffers,
                                     peer_buffer_addresses, lengths, notify))

    # --- Transfers that go on after the call: an id, or 0 if nothing was started ---

    def transfer_submit_write(self, target_hostname: str, buffer: int, peer_buffer_address: int,
                              length: int, transport_hint: str = "") -> int:
        """Begins to move `length` bytes from `buffer` to the peer."""
        return self._keep(self._one(True, target_hostname, buffer, peer_buffer_address, length))

    def batch_transfer_async_write(self, target_hostname: str, buffers: Sequence[int],
                                   peer_buffer_addresses: Sequence[int], lengths: Sequence[int],
                                   transport_hint: str = "") -> int:
        """Begins what batch_transfer_sync_write() does."""
        return self._keep(self._list(True, target_hostname, buffers, peer_buffer_addresses,
                                     lengths))

    def batch_transfer_async_read(self, target_hostname: str, buffers: Sequence[int],
                                  peer_buffer_addresses: Sequence[int], lengths: Sequence[int],
                                  transport_hint: str = "") -> int:
        """Begins what batch_transfer_sync_read() does."""
        return self._keep(self._list(False, target_hostname, buffers, peer_buffer_addresses,
                                     lengths))

    def batch_transfer_async(self, target_hostname: str, buffers: Sequence[int],
                             peer_buffer_addresses: Sequence[int], lengths: Sequence[int],
                             opcode: TransferOpcode, transport_hint: str = "") -> int:
        """Begins what batch_transfer_sync() does, without a notification."""
        return self._keep(self._list(_is_write(opcode), target_hostname, buffers,
                                     peer_buffer_addresses, lengths))

    def transfer_check_status(self, batch_id: int, /) -> int:
        """1: all of it completed; 0: in flight; -1: failed, or no such id; -2: timed out.

        Stays the same for as long as the id is remembered: among the last 65,536.
        """
        batch_id = _number(batch_id)
        batch = self._batches.get(batch_id, FAILED)
        if isinstance(batch, int):
            return batch
        if not batch.done():
            return PENDING
        return self._ended(batch_id, batch)

    def get_batch_transfer_status(self, batch_ids: Sequence[int], /) -> int:
        """Waits until all have ended. 0: all completed; -1: one failed, or is not known."""
        statuses = []
        for batch_id in _plain(batch_ids):
            batch = self._batches.get(batch_id, FAILED)
            if not isinstance(batch, int):
                try:
                    batch.wait()
                except (te.TransferEngineError, OSError):
                    pass  # it is in batch.error too
                batch = self._ended(batch_id, batch)
            statuses.append(batch)
        return 0 if all(status == COMPLETED for status in statuses) else FAILED

    # --- The parts of the calls ---

    def _memory_call(self, what: str, method: str, *arguments: Any, **named: Any) -> int:
        try:
            getattr(self._running(), method)(*arguments, **named)
            return 0
        except te.NotFoundError as error:
            return self._failed(what, error, NOT_REGISTERED)
        except te.AlreadyExistsError as error:
            return self._failed(what, error, OVERLAP)
        except te.TransferEngineError as error:
            return self._failed(what, error)

    def _running(self) -> te.Engine:
        if self._engine is None:
            raise te.InvalidArgumentError("the engine does not run: initialize() was not called, "
                                          "or failed")
        return self._engine

    def _peer(self, name: str | bytes) -> str:
        """The name of the peer's segment. Clients write IPv6 addresses without brackets too."""
        if isinstance(name, bytes):
            name = name.decode()
        _require_text(target_hostname=name)
        if self._peer_to_peer and name.count(":") > 1 and not name.startswith("["):
            host, _, port = name.rpartition(":")
            return f"[{host}]:{port}"
        return name

    def _open(self, target: str | bytes) -> te.Segment:
        return self._segments.setdefault(target, self._running().open(self._peer(target)))

    def _one(self, write: bool, target: str, source: int, remote: int, length: int,
             notify: TransferNotify | None = None) -> Any:
        length = _number(length)
        return self._submit(write, target, _number(source), _number(remote), length, length, notify)

    def _list(self, write: bool, target: str, sources: Sequence[int], remotes: Sequence[int],
              lengths: Sequence[int], notify: TransferNotify | None = None) -> Any:
        total = lengths.sum() if hasattr(lengths, "sum") else sum(lengths)
        return self._submit(write, target, sources, remotes, lengths, total, notify)

    def _submit(self, write: bool, target: str, sources: Any, remotes: Any, lengths: Any,
                total: int, notify: TransferNotify | None) -> Any:
        """A transfer in flight, or None if nothing was started.

        The limit of time is Mooncake's: the timeout, and 1 ns for each byte.
        """
        options: dict[str, Any] = {"timeout": min(self._timeout_s + int(total) * 1e-9, 1e9)}
        if notify is not None:
            options["notification"] = _message(notify)
        try:
            segment = self._segments.get(target) or self._open(target)
        except te.TransferEngineError as error:
            return self._failed("transfer", error, None)
        try:
            move = segment.write if write else segment.read
            return move(sources, remotes, lengths, **options)
        except te.InvalidArgumentError as error:
            if isinstance(sources, int):
                lists = [sources], [remotes], [lengths]
            else:
                lists = _plain(sources), _plain(remotes), _plain(lengths)
                if any(map(operator.is_not, lists, (sources, remotes, lengths))):
                    return self._submit(write, target, *lists, total, notify)
                if not len(sources) == len(remotes) == len(lengths):
                    return self._failed("transfer", error, None)
            if not self._warned:
                self._warned = True
                logger.warning("memory that is not registered is copied through a buffer: register "
                               "it for speed (%s)", error)
            return unregistered.Transfer(self._running(), segment, write, *lists, options)
        except te.TransferEngineError as error:
            return self._failed("transfer", error, None)

    def _wait(self, transfer: Any) -> int:
        if transfer is None:
            return FAILED
        try:
            transfer.wait()
            return 0
        except (te.TransferEngineError, OSError) as error:
            return self._failed("transfer", error)

    def _keep(self, transfer: Any) -> int:
        """The id for the transfer; forgets the oldest one."""
        if transfer is None:
            return 0
        batch_id = next(self._ids)
        with self._lock:
            self._batches[batch_id] = transfer
            if len(self._batches) > BATCHES_MAX:
                oldest, batch = next(iter(self._batches.items()))
                if isinstance(batch, int) or batch.done():
                    del self._batches[oldest]
        return batch_id

    def _ended(self, batch_id: int, transfer: Any) -> int:
        """Remembers the status of a transfer that has ended."""
        error = transfer.error
        status = (COMPLETED if error is None else
                  TIMED_OUT if isinstance(error, te.TransferTimeoutError) else FAILED)
        if error is not None:
            self._failed(f"batch {batch_id}", error)
        with self._lock:
            if batch_id in self._batches:
                self._batches[batch_id] = status
        return status

    def _failed(self, what: str, error: Exception | str, result: Any = FAILED) -> Any:
        """Logs why; returns `result`."""
        logger.warning("%s: %s", what, error)
        if isinstance(error, te.UnavailableError):
            # Asked again by its name next time, and forgotten if it is gone for good.
            for target, segment in list(self._segments.items()):
                if segment.name == error.peer:
                    self._segments.pop(target, None)
        return result


# In the class it would hide the class of that name.
TransferEngine.TransferOpcode = TransferOpcode  # type: ignore[attr-defined]


def _create(local_hostname: str, metadata_server: str, device_name: str,
            variables: environment.Environment) -> te.Engine:
    """An engine at a free port."""
    settings = dict(variables.settings)
    if device_name:
        settings["nics"] = device_name
    host, port = _host_and_port(local_hostname)
    name = ""
    if metadata_server != P2P:
        name = local_hostname
    elif host not in ("", "0.0.0.0", "::"):
        settings["advertise_address"] = host  # whether or not this machine has it
    if variables.log_level:
        te.set_log_level(_log_level(variables.log_level))
    count = min(PORTS_MAX, len(variables.ports))
    ports = [port] if variables.keep_port and port else random.sample(variables.ports, count)
    for port in ports:
        try:
            return te.Engine(variables.directory(metadata_server), name, port=port,
                             addressing=te.Addressing.ADDRESS, settings=settings)
        except te.AlreadyExistsError as error:
            taken = error
    raise taken


def _install(engine: te.Engine, protocol: str, nic_priority_matrix: str) -> None:
    """`protocol`, and shm, which serves peers of this host. Engines begin with tcp and shm."""
    if protocol == "tcp":
        return
    try:
        engine.install_transport(protocol, nic_priority_matrix)
    except te.TransferEngineError as error:
        engine.close()
        raise type(error)(f'{error}; without such a NIC pass the protocol "tcp", or set '
                          "MC_FORCE_TCP=1") from error
    engine.install_transport("shm")


def _host_and_port(text: str) -> tuple[str, int]:
    """Of "host", "host:port", an IPv6 address, "[address]" and "[address]:port"; port 0: none."""
    try:
        return str(ipaddress.IPv6Address(text)), 0
    except ValueError:
        pass
    host, separator, port = text.rpartition(":")
    if not separator or text.endswith("]"):
        host, port = text, "0"
    return host.removeprefix("[").removesuffix("]"), int(port) if port.isdecimal() else 0


def _log_level(name: str) -> te.LogLevel:
    """Mooncake's names, of which TRACE is the lowest level."""
    return te.LogLevel.__members__.get(name.upper(), te.LogLevel.DEBUG)


def _is_write(opcode: TransferOpcode) -> bool:
    if not isinstance(opcode, TransferOpcode):
        raise TypeError(f"opcode takes a TransferOpcode, not {type(opcode).__name__}")
    return opcode is TransferOpcode.Write


def _message(notify: TransferNotify) -> tuple[str, bytes]:
    if not isinstance(notify, TransferNotify):
        raise TypeError(f"notify takes a TransferNotify, not {type(notify).__name__}")
    _require_text(name=notify.name, msg=notify.msg)
    return notify.name, notify.msg.encode(errors="surrogateescape")


def _require_text(**arguments: Any) -> None:
    for name, value in arguments.items():
        if not isinstance(value, str):
            raise TypeError(f"{name} takes a str, not {type(value).__name__}")


def _number(value: Any) -> int:
    """An int of 64 bits without a sign, from anything that is one; else TypeError."""
    number = operator.index(value)
    if not 0 <= number < 1 << 64:
        raise TypeError(f"{number} is not an unsigned number of 64 bits")
    return number


def _plain(numbers: Any) -> Any:
    """The list itself if it is one of ints, else such a list; else TypeError."""
    if not hasattr(numbers, "__len__") or isinstance(numbers, (str, dict, set)):
        raise TypeError(f"takes a sequence of ints, not {type(numbers).__name__}")
    plain = [_number(number) for number in numbers]
    if type(numbers) is list and all(type(number) is int for number in numbers):
        return numbers
    return plain
