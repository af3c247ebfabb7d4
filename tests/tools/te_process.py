"""Running the `te` command as its users do: real processes, loopback only, free ports."""

import contextlib
import json
import os
import pty
import re
import select
import socket
import subprocess
import sys
import time
import unittest

TE = ""  # set by main()
PEER = ""
TIMEOUT_S = 60  # of anything that should take moments; machines may be slow


def environment(**settings):
    """The caller's environment without settings of the engine, and with `settings`."""
    clean = {name: value for name, value in os.environ.items()
             if not name.startswith(("TE_", "TRANSFER_ENGINE_"))}
    return {**clean, **settings}


def te(*arguments, env=None):
    return subprocess.run(
        [TE, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_S,
        env=env or environment(),
        check=False,
    )


@contextlib.contextmanager
def started(*arguments, **streams):
    """A running te, killed at the end of the block if it is still there."""
    process = subprocess.Popen(
        [TE, *arguments], stdin=subprocess.DEVNULL, text=True, env=environment(), **streams
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(TIMEOUT_S)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def target(*arguments):
    """A running target and what it announced."""
    with started("bench", "target", "--json", "--host", "127.0.0.1", "--buffer-size", "8M",
                 *arguments, stdout=subprocess.PIPE) as process:
        yield process, json.loads(process.stdout.readline())


@contextlib.contextmanager
def aliased_target(size):
    """The segment of a running target all of whose pages are the same page."""
    with subprocess.Popen([PEER, "--host", "127.0.0.1", "--size", str(size), "--aliased"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          env=environment()) as process:
        try:
            yield process.stdout.readline().split()[1]
        finally:
            process.kill()


@contextlib.contextmanager
def measuring(*arguments):
    """A te with a terminal for stderr, once its progress line shows figures."""
    terminal, end = pty.openpty()
    try:
        with started(*arguments, stdout=subprocess.PIPE, stderr=end) as process:
            os.close(end)
            end = -1
            seen = b""
            deadline = time.monotonic() + TIMEOUT_S
            while not re.search(rb"\d GB/s", seen):
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([terminal], [], [], left)[0]:
                    raise AssertionError(f"no progress line but {seen!r}")
                seen += os.read(terminal, 4096)
            yield process, terminal
    finally:
        if end >= 0:
            os.close(end)
        os.close(terminal)


def rest_of(terminal):
    """What else was written to a terminal whose writer has ended."""
    text = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while True:
            text += os.read(terminal, 4096)
    return text.decode()


def children_of(pid):
    result = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", encoding="ascii",
                                                errors="replace") as stat:
            if int(stat.read().rpartition(")")[2].split()[1]) == pid:
                result.append(int(entry))
    return result


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, what):
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"still not: {what}")
        time.sleep(0.01)


def accepts_connections(endpoint):
    host, _, port = endpoint.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        return True
    except OSError:
        return False


class TeTest(unittest.TestCase):
    maxDiff = None

    def assert_failed(self, result, *parts):
        """Exit code 1, and an error that says `parts`."""
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        for part in parts:
            self.assertIn(part, result.stderr)

    def assert_measured(self, report, cases):
        self.assertEqual(report["error"], "")
        self.assertEqual([(c["operation"], c["block_bytes"]) for c in report["cases"]], cases)
        for case in report["cases"]:
            self.assertEqual(case["errors"], 0)
            self.assertEqual(case["bytes"], case["requests"] * case["block_bytes"])
            latency = case["batch_latency_ns"]
            self.assertEqual(latency["count"] * case["batch_size"], case["requests"])
            for figure in ("bytes", "seconds", "gigabytes_per_second", "requests_per_second"):
                self.assertGreater(case[figure], 0, figure)
            self.assertGreater(latency["min"], 0)
            ordered = [latency[name] for name in ("min", "p50", "p99", "p99_9", "max")]
            self.assertEqual(ordered, sorted(ordered))


def main(usage):
    """Runs the test classes named on the command line, or all.

    --te PATH --peer PATH [TestClass ...]; the latter is te_test_peer.
    """
    global TE, PEER
    arguments = sys.argv[1:]
    if len(arguments) < 4 or (arguments[0], arguments[2]) != ("--te", "--peer"):
        sys.exit(usage)
    TE, PEER = os.path.abspath(arguments[1]), os.path.abspath(arguments[3])
    unittest.main(argv=[sys.argv[0], *arguments[4:]], verbosity=2)
