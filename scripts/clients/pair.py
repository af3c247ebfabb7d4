"""Two processes with a pipe between them: a target that holds memory, and an initiator."""
import multiprocessing
import os
import sys
import traceback

LIMIT_S = 300


def run(target, initiator):
    """Each gets its end of a pipe (multiprocessing.Connection). Ends this program."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_guarded, args=(target, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        initiator(ours)
        status = 0
    except Exception:
        traceback.print_exc()
        status = 1
    process.terminate()
    process.join()
    sys.stdout.flush()
    os._exit(status)  # threads of the client may not end


def receive(pipe):
    """What the other side sent; an error if it ended, or sent nothing for LIMIT_S."""
    if not pipe.poll(LIMIT_S):
        raise TimeoutError("the other process sends nothing")
    return pipe.recv()


def _guarded(target, pipe):
    try:
        target(pipe)
    except Exception:
        traceback.print_exc()
        os._exit(1)
