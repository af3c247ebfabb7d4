"""What several tests use: engines, and targets in processes of their own."""
import os
import signal
import subprocess
import sys

import pytest

import transfer_engine as te

HERE = os.path.dirname(os.path.abspath(__file__))
#: So that a test that hangs says where.
os.environ.setdefault("PYTHONFAULTHANDLER", "1")


class Peer:
    """tests/peer.py as a child, and the name of its segment."""

    def __init__(self, length, *settings):
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "peer.py"), str(length), *settings],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.name = self.process.stdout.readline().strip()
        assert self.name, "the target did not start"

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)  # its threads may run until then

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def start_peer():
    peers = []

    def start(length=1 << 20, *settings):
        peers.append(Peer(length, *settings))
        return peers[-1]

    yield start
    for peer in peers:
        peer.end()


@pytest.fixture
def engine():
    with te.Engine(host="127.0.0.1") as made:
        yield made


@pytest.fixture
def target():
    with te.Engine(host="127.0.0.1") as made:
        yield made


@pytest.fixture
def tcp():
    """An initiator without shm, whose transfers go through sockets."""
    with te.Engine(host="127.0.0.1") as made:
        made.install_transport("tcp")
        yield made


class Wide:
    """As much as does not fit into sockets: while the target is frozen, no transfer completes."""

    def __init__(self, engine, peer, length):
        self.engine, self.peer = engine, peer
        self.local = bytearray(length)
        engine.register(self.local)
        self.segment = engine.open(peer.name)


@pytest.fixture
def wide(tcp, start_peer):
    return Wide(tcp, start_peer(64 << 20), 64 << 20)


def run_python(code, *arguments, timeout=60, **options):
    """Runs a program in a process of its own; gives its result with all that it said."""
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True,
                          timeout=timeout, check=False, **options)
