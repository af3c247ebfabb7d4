"""SGLang's wrapper of the engine, as its PD disaggregation calls it: one process pushes to one."""
import os

import torch

import pair

os.environ["MOONCAKE_PROTOCOL"] = "tcp"
HOST = "127.0.0.1"
BLOCKS, BLOCK = 64, (16, 8, 64)  # a layer of a KV cache


def layers(seed):
    torch.manual_seed(seed)
    return [torch.randn((BLOCKS, *BLOCK), dtype=torch.float16) for _ in range(4)]


def engine():
    from sglang.srt.distributed.device_communicators.mooncake_transfer_engine import (
        init_mooncake_transfer_engine)
    return init_mooncake_transfer_engine(HOST)


def register(own, tensors):
    pointers = [tensor.data_ptr() for tensor in tensors]
    assert own.batch_register(pointers, [tensor.nbytes for tensor in tensors]) == 0
    return pointers


def decode(pipe):
    own, caches, aux = engine(), layers(2), torch.zeros(1000, dtype=torch.int64)
    own.register(aux.data_ptr(), aux.nbytes)
    pipe.send((own.get_session_id(), register(own, caches), aux.data_ptr()))
    while pipe.recv() == "compare":
        pipe.send((caches, aux))


def prefill(pipe):
    own, caches = engine(), layers(1)
    pointers = register(own, caches)
    session, remote, remote_aux = pair.receive(pipe)
    assert own.send_probe(session) == 0
    size = caches[0][0].nbytes
    moved = [(8, 3), (9, 4), (10, 5), (63, 0), (0, 63)]  # block here, block there
    blocks = [(here + ours * size, there + theirs * size, size)
              for here, there in zip(pointers, remote) for ours, theirs in moved]
    assert own.batch_transfer_sync(session, *map(list, zip(*blocks))) == 0
    aux = torch.arange(1000)  # is not registered
    assert own.transfer_sync(session, aux.data_ptr(), remote_aux, aux.nbytes) == 0
    pipe.send("compare")
    received, received_aux = pair.receive(pipe)
    expected = layers(2)
    for cache, own_cache in zip(expected, caches):
        for ours, theirs in moved:
            cache[theirs] = own_cache[ours]
    assert all(torch.equal(one, other) for one, other in zip(received, expected))
    assert torch.equal(received_aux, aux)
    assert own.batch_deregister(pointers) == 0
    assert own.batch_transfer_sync(session, [pointers[0]], [4096], [8]) < 0
    assert own.send_probe(f"{HOST}:1") != 0
    print(f"pushed {len(blocks)} blocks of {size} bytes, all layers equal")


if __name__ == "__main__":
    pair.run(decode, prefill)
