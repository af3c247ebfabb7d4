"""Tensors of PyTorch, on the CPU: between two processes, every byte compared.

`./dev clients torch` runs them where PyTorch is not installed otherwise.
"""
import gc
import hashlib
import weakref

import pytest

import transfer_engine as te

torch = pytest.importorskip("torch", reason="torch was not found: its tensors are not tested")

ELEMENTS = 1 << 16
DTYPES = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16,
          torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.bool,
          torch.float8_e4m3fn, torch.float8_e5m2]


def raw(tensor):
    return bytes(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy())


def digest(tensor):
    return hashlib.sha256(raw(tensor)).hexdigest()


def random(dtype=torch.float32, shape=(ELEMENTS,)):
    return torch.randint(0, 2, shape, dtype=torch.int64).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_type_is_written_and_read(engine, start_peer, dtype):
    tensor, back = random(dtype), torch.zeros(ELEMENTS, dtype=dtype)
    peer = start_peer(len(raw(tensor)))
    assert digest(tensor) != digest(back)
    engine.register(tensor)
    engine.register(back)
    segment = engine.open(peer.name)
    assert segment.write(tensor).wait() == len(raw(tensor))
    assert peer.ask("sum") == digest(tensor)
    segment.read(back).wait()
    assert raw(back) == raw(tensor)


@pytest.mark.parametrize("make", [
    lambda: random(shape=(4, 8, ELEMENTS // 32)),
    lambda: random(shape=(2 * ELEMENTS,))[ELEMENTS:],
    lambda: random(shape=(3, ELEMENTS))[1],
    lambda: torch.nn.Parameter(random()),
    lambda: random().requires_grad_(),
    lambda: random().share_memory_(),
    lambda: random(shape=(1, ELEMENTS, 1)).permute(2, 1, 0),
    lambda: torch.from_numpy(random().numpy()),
    lambda: torch.utils.dlpack.from_dlpack(random()),
], ids=["3 dimensions", "slice", "row", "Parameter", "gradient", "shared", "permuted", "of numpy",
        "of DLPack"])
def test_contiguous_tensors_are_written(engine, start_peer, make):
    tensor = make()
    peer = start_peer(len(raw(tensor)))
    engine.register(tensor)
    engine.open(peer.name).write(tensor).wait()
    assert peer.ask("sum") == digest(tensor)


def test_inference_tensors_are_read_into(engine, start_peer):
    with torch.inference_mode():
        tensor, back = random(), torch.zeros(ELEMENTS)
        peer = start_peer(len(raw(tensor)))
        engine.register(tensor)
        engine.register(back)
        segment = engine.open(peer.name)
        segment.write(tensor).wait()
        segment.read(back).wait()
        assert torch.equal(tensor, back)


def test_pages_of_a_cache_are_moved_as_blocks(engine, start_peer):
    layers, blocks = 4, 64
    cache = [random(torch.bfloat16, (blocks, 16, 8)) for _ in range(layers)]
    size = cache[0][0].numel() * cache[0].element_size()
    peer = start_peer(layers * blocks * size)
    for layer in cache:
        engine.register(layer)
    segment = engine.open(peer.name)
    regions = [(layer.data_ptr(), i * blocks * size, size) for i, layer in enumerate(cache)]
    here, there = torch.randperm(blocks), torch.randperm(blocks)
    segment.write(te.BlockList(regions, here.tolist(), there.numpy())).wait()
    expected = torch.zeros(layers, *cache[0].shape, dtype=torch.bfloat16)
    for i, layer in enumerate(cache):
        expected[i, there] = layer[here]
    assert peer.ask("sum") == digest(expected)


def test_addresses_may_be_tensors(engine, start_peer):
    tensor = random()
    length = len(raw(tensor))
    peer = start_peer(length)
    engine.register(tensor)
    segment = engine.open(peer.name)
    offsets = torch.arange(0, length, 4096)
    segment.write(offsets + tensor.data_ptr(), offsets, 4096).wait()
    assert peer.ask("sum") == digest(tensor)


@pytest.mark.parametrize("make, text", [
    (lambda: random(shape=(256, 256)).t(), "not C-contiguous"),
    (lambda: random()[::2], "not C-contiguous"),
    (lambda: random(shape=(1, 256)).expand(256, 256), "not C-contiguous"),
    (lambda: random(torch.complex64).conj(), "resolve_conj"),
    (lambda: random(torch.complex64).conj().imag, "not C-contiguous"),
    (lambda: torch._neg_view(random()), "resolve_neg"),
    (lambda: torch.eye(8).to_sparse(), "has no memory"),
    (lambda: torch.empty(8, device="meta"), "has no memory"),
], ids=["transposed", "strided", "expanded", "conjugate", "imaginary", "negative", "sparse",
        "meta"])
def test_tensors_whose_bytes_are_not_their_values_are_refused(engine, make, text):
    tensor = make()
    with pytest.raises(te.InvalidArgumentError, match=text):
        engine.register(tensor)


def test_a_tensor_lives_as_long_as_it_is_registered_or_moved(wide):
    tensor = random(torch.uint8, (64 << 20,))
    gone = weakref.ref(tensor)
    registration = wide.engine.register(tensor)
    wide.peer.freeze()
    transfer = wide.segment.write(tensor)
    expected = digest(tensor)
    del tensor
    gc.collect()
    assert gone() is not None
    wide.peer.go_on()
    transfer.wait(60)
    assert wide.peer.ask("sum") == expected
    registration.unregister()
    del transfer, registration
    gc.collect()
    assert gone() is None
