"""checkpoint-engine's P2PStore: one process registers tensors, the other reads them.

Its DeviceManager knows GPUs and NPUs only; the store takes any object with the same members.
"""
import os
import types

import torch

import pair

DEVICES = types.SimpleNamespace(
    device_module=types.SimpleNamespace(device_count=lambda: 1),
    rdma_device=lambda rank: "", transfer_engine_protocol="tcp")
SHAPES = {"embedding": (1000, 512), "norm": (512,), "head": (512, 777)}


def tensors(seed):
    torch.manual_seed(seed)
    return {name: torch.randn(shape, dtype=torch.bfloat16) for name, shape in SHAPES.items()}


def store(rank):
    os.environ["RANK"] = str(rank)
    from checkpoint_engine.p2p_store import P2PStore
    return P2PStore(DEVICES)


def owner(pipe):
    own = store(0)
    named = tensors(1)
    own.register_named_tensors(named)
    pipe.send((own.addr, {name: tensor.data_ptr() for name, tensor in named.items()}))
    pipe.recv()
    assert own.unregister_named_tensors(list(named)) == len(named)
    pipe.send("unregistered")
    pipe.recv()


def reader(pipe):
    own = store(1)
    named, expected = tensors(2), tensors(1)
    own.register_named_tensors(named)
    address, remote = pair.receive(pipe)
    lists = zip(*((tensor.data_ptr(), remote[name], tensor.nbytes)
                  for name, tensor in named.items()))
    lists = [list(numbers) for numbers in lists]
    own.batch_transfer_sync_read(address, *lists)
    for name, tensor in named.items():
        assert torch.equal(tensor, expected[name]), name
    pipe.send("unregister")
    pair.receive(pipe)
    try:
        own.batch_transfer_sync_read(address, *lists)
    except AssertionError:
        pass  # it asserts that the engine returns 0
    else:
        raise RuntimeError("memory was read that its owner had unregistered")
    print(f"read {sum(t.nbytes for t in named.values())} bytes of {len(named)} tensors, all equal")


if __name__ == "__main__":
    pair.run(owner, reader)
