"""SGLang: the parts of its PD disaggregation over Mooncake, in a prefill and a decode process.

Bootstrap server, KV managers, sender and receiver of SGLang move a KV cache of CPU tensors, several
requests after one another. No model runs: SGLang's published package has kernels for GPUs only.
"""
import os
import tempfile
import time

import numpy
import torch

import pair
import vllm_model

os.environ.update(MOONCAKE_PROTOCOL="tcp", MC_FORCE_TCP="1", SGLANG_HOST_IP="127.0.0.1",
                  HF_HUB_OFFLINE="1")
BOOTSTRAP_PORT = 23_456
ADDRESS = f"127.0.0.1:{BOOTSTRAP_PORT}"
LAYERS, PAGES, PAGE, HEADS, HEAD = 4, 64, 16, 2, 64
REQUESTS = {101: ([3, 4, 5, 20], [40, 41, 7, 8]), 102: ([60], [0]), 103: ([9, 10], [10, 9])}
MODEL = os.path.join(os.path.dirname(__file__), "..", "..", "build", "clients", "model")


def caches(seed):
    """Keys of all layers, then values of all layers; in pages of PAGE tokens."""
    torch.manual_seed(seed)
    return [torch.randn((PAGES, PAGE, HEADS, HEAD), dtype=torch.bfloat16)
            for _ in range(2 * LAYERS)]


def manager(mode, tensors, aux):
    """As SGLang's scheduler makes it, for one rank on a CPU."""
    from sglang.srt.disaggregation.base.conn import KVArgs
    from sglang.srt.disaggregation.mooncake.conn import MooncakeKVManager
    from sglang.srt.disaggregation.utils import DisaggregationMode
    from sglang.srt.distributed.device_communicators.mooncake_transfer_engine import (
        init_mooncake_transfer_engine)
    from sglang.srt.distributed.parallel_state import (
        init_distributed_environment, initialize_model_parallel)
    from sglang.srt.runtime_context import SpawnRanks, publish
    from sglang.srt.server_args import ServerArgs
    server = ServerArgs(
        model_path=vllm_model.make(MODEL), device="cpu", skip_tokenizer_init=True,
        attention_backend="torch_native", host="127.0.0.1", page_size=PAGE,
        disaggregation_mode=mode, disaggregation_bootstrap_port=BOOTSTRAP_PORT)
    publish(server, role="scheduler", ranks=SpawnRanks(world_rank=0))
    with tempfile.NamedTemporaryFile() as meeting_point:
        init_distributed_environment(1, 0, f"file://{meeting_point.name}", 0, backend="gloo")
        initialize_model_parallel(backend="gloo")
    init_mooncake_transfer_engine("127.0.0.1")
    arguments = KVArgs()
    arguments.engine_rank = arguments.pp_rank = arguments.prefill_start_layer = 0
    arguments.system_dp_rank = arguments.gpu_id = 0
    arguments.prefill_end_layer = LAYERS
    arguments.kv_data_ptrs = [tensor.data_ptr() for tensor in tensors]
    arguments.kv_data_lens = [tensor.nbytes for tensor in tensors]
    arguments.kv_item_lens = [tensor[0].nbytes for tensor in tensors]
    arguments.kv_layer_ids = list(range(LAYERS)) * 2
    arguments.kv_cache_dtype_str = "bfloat16"
    arguments.aux_data_ptrs, arguments.aux_data_lens = [aux.data_ptr()], [aux.nbytes]
    arguments.aux_item_lens = [aux[0].nbytes]
    for name in ("state_types", "state_data_ptrs", "state_data_lens", "state_item_lens",
                 "state_layer_ids", "state_dim_per_tensor", "state_slice_outer_counts",
                 "state_conv_shard_groups"):
        setattr(arguments, name, [])
    arguments.is_hybrid_mla_backend = False
    arguments.mla_compression_ratios = arguments.swa_kv_cache_layout = None
    arguments.rust_http_port = None
    arguments.ib_device = ""
    arguments.kv_head_num = arguments.total_kv_head_num = HEADS
    arguments.page_size = PAGE
    return MooncakeKVManager(arguments, DisaggregationMode(mode), server)


def wait_for(what, *wanted):
    """Polls a sender or receiver until its state is one of `wanted`."""
    from sglang.srt.disaggregation.base.conn import KVPoll
    end = time.monotonic() + 60
    while (state := what.poll()) not in wanted:
        if state == KVPoll.Failed:
            what.failure_exception()
        assert time.monotonic() < end, f"state {state} for 60 s"
        time.sleep(0.01)


def prefill(pipe):
    from sglang.srt.disaggregation.base.conn import KVPoll
    from sglang.srt.disaggregation.mooncake.conn import MooncakeKVBootstrapServer, MooncakeKVSender
    server = MooncakeKVBootstrapServer("127.0.0.1", BOOTSTRAP_PORT)
    aux = torch.arange(8 * 16, dtype=torch.int64).reshape(8, 16)
    tensors = caches(1)
    own = manager("prefill", tensors, aux)
    pipe.send("ready")
    for number, (room, (pages, _)) in enumerate(REQUESTS.items()):
        sender = MooncakeKVSender(own, ADDRESS, room)
        wait_for(sender, KVPoll.WaitingForInput)
        sender.init(len(pages), aux_index=number)
        sender.send(numpy.array(pages, dtype=numpy.int32))
        wait_for(sender, KVPoll.Success)
    pipe.recv()
    del server


def decode(pipe):
    from sglang.srt.disaggregation.base.conn import KVPoll
    from sglang.srt.disaggregation.mooncake.conn import MooncakeKVReceiver
    tensors, expected, source = caches(2), caches(2), caches(1)
    aux = torch.zeros((8, 16), dtype=torch.int64)
    own = manager("decode", tensors, aux)
    pair.receive(pipe)
    end = time.monotonic() + 30
    while not own.try_ensure_parallel_info(ADDRESS):
        assert time.monotonic() < end
        time.sleep(0.1)
    for number, (room, (theirs, pages)) in enumerate(REQUESTS.items()):
        receiver = MooncakeKVReceiver(own, ADDRESS, room)
        receiver.init(0)
        receiver.send_metadata(numpy.array(pages, dtype=numpy.int32), aux_index=7 - number)
        wait_for(receiver, KVPoll.Success)
        for cache, other in zip(expected, source):
            cache[pages] = other[theirs]
        assert all(map(torch.equal, tensors, expected)), f"request {room}: other bytes"
        assert torch.equal(aux[7 - number], torch.arange(16) + 16 * number), f"request {room}"
    pages = sum(len(pages) for _, pages in REQUESTS.values())
    print(f"{len(REQUESTS)} requests, {pages} pages of {2 * LAYERS} tensors, all equal")


if __name__ == "__main__":
    pair.run(prefill, decode)
