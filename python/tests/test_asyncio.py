"""Transfers that are awaited: many on a loop, on several loops, cancelled, with a closed engine."""
import asyncio
import threading
import time

import pytest

import transfer_engine as te

LENGTH = 1 << 20


def open_descriptors():
    import os
    return len(os.listdir("/proc/self/fd"))


def test_a_thousand_transfers_on_one_loop(tcp, start_peer):
    peer = start_peer(LENGTH)
    count, size = 1000, LENGTH // 1000
    local = bytearray(i % 251 for i in range(LENGTH))
    tcp.register(local)
    segment = tcp.open(peer.name)
    view = memoryview(local)

    async def move():
        threads = threading.active_count()
        moved = await asyncio.gather(
            *(segment.write(view[i * size:(i + 1) * size], i * size) for i in range(count)))
        assert threading.active_count() == threads
        return moved

    assert asyncio.run(move()) == [size] * count
    back = bytearray(LENGTH)
    tcp.register(back)
    segment.read(back).wait()
    assert back[:count * size] == local[:count * size]


def test_awaiting_one_after_the_other_leaves_no_descriptor(tcp, start_peer):
    peer = start_peer(LENGTH)
    local = bytearray(LENGTH)
    tcp.register(local)
    segment = tcp.open(peer.name)

    async def move():
        await segment.write(local)
        before = open_descriptors()
        for _ in range(200):
            assert await segment.write(memoryview(local)[:4096]) == 4096
        assert open_descriptors() <= before

    asyncio.run(move())


def test_a_loop_sleeps_while_a_transfer_is_in_flight(tcp, start_peer):
    peer = start_peer(LENGTH)
    local = bytearray(LENGTH)
    tcp.register(local)
    segment = tcp.open(peer.name)
    segment.write(local).wait()
    peer.freeze()

    async def move():
        transfer = segment.write(local, timeout=0.5)
        begin = time.process_time(), time.thread_time()
        with pytest.raises(te.TransferTimeoutError):
            while True:  # until the socket is full
                await transfer
                transfer = segment.write(local, timeout=0.5)
        assert time.thread_time() - begin[1] < 0.2

    asyncio.run(move())


def test_cancelling_the_task_cancels_the_transfer(wide):
    wide.peer.freeze()

    async def move():
        transfer = wide.segment.write(wide.local)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_await(transfer), 0.1)
        return transfer

    transfer = asyncio.run(move())
    with pytest.raises(te.TransferCancelledError):
        transfer.wait(10)


async def _await(transfer):
    return await transfer


def test_loops_of_several_threads_share_an_engine(tcp, start_peer):
    peer = start_peer(LENGTH)
    local = bytearray(LENGTH)
    tcp.register(local)
    segment = tcp.open(peer.name)
    results = []

    def run():
        async def move():
            for _ in range(20):
                moved = await asyncio.gather(*(segment.write(local) for _ in range(8)))
                assert moved == [LENGTH] * 8
        asyncio.run(move())
        results.append(True)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [True] * 4


def test_two_tasks_and_a_thread_wait_for_one_transfer(wide):

    async def move():
        for _ in range(3):
            transfer = wide.segment.write(wide.local)
            thread = asyncio.get_running_loop().run_in_executor(None, transfer.wait)
            moved = await asyncio.gather(_await(transfer), _await(transfer), thread)
            assert moved == [64 << 20] * 3

    asyncio.run(move())


def test_closing_the_engine_ends_what_is_awaited(wide):
    wide.peer.freeze()

    async def move(close):
        task = asyncio.ensure_future(_await(wide.segment.write(wide.local)))
        await asyncio.sleep(0.05)
        await close()
        with pytest.raises(te.TransferCancelledError):
            await task

    async def elsewhere():
        await asyncio.get_running_loop().run_in_executor(None, wide.engine.close)

    asyncio.run(move(elsewhere))
    with pytest.raises(te.TransferCancelledError, match="closed"):
        wide.segment.write(wide.local)


def test_a_transfer_that_is_done_is_awaited_at_once(engine, target):
    memory, local = bytearray(4096), bytearray(b"z" * 4096)
    target.register(memory)
    engine.register(local)
    transfer = engine.open(target.local_endpoint).write(local)
    transfer.wait()

    async def move():
        return await transfer, await transfer

    assert asyncio.run(move()) == (4096, 4096)
    assert memory == local
