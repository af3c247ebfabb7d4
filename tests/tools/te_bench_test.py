"""`te bench`: measuring, verifying, failing and stopping.

    python3 te_bench_test.py --te PATH --peer PATH [TestClass ...]
"""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time

from te_process import (
    TIMEOUT_S,
    TeTest,
    accepts_connections,
    aliased_target,
    children_of,
    environment,
    is_running,
    main,
    measuring,
    rest_of,
    started,
    target,
    te,
    wait_until,
)


class BenchLocalTest(TeTest):
    ARGUMENTS = ("bench", "local", "--buffer-size", "8M", "--json", "-")

    def test_measures_and_verifies(self):
        result = te(*self.ARGUMENTS, "--verify", "--duration", "50ms", "--block-size", "4K,1M",
                    "--operation", "both")
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        self.assert_measured(report, [("write", 4096), ("read", 4096), ("write", 1 << 20),
                                      ("read", 1 << 20)])
        for case in report["cases"]:
            self.assertGreaterEqual(case["verified_bytes"], case["block_bytes"])
        self.assertTrue(report["paths"])
        self.assertFalse(accepts_connections(report["segment"]), "the target is still there")
        # The table goes to stderr when stdout is the JSON.
        self.assertIn("GB/s", result.stderr)
        self.assertIn("p99.9", result.stderr)

    def test_warns_once_of_settings(self):
        result = te(*self.ARGUMENTS, "--duration", "20ms", "--block-size", "4K",
                    env=environment(TRANSFER_ENGINE_SLICE_BYTE="1"))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr.count("TRANSFER_ENGINE_SLICE_BYTE has no effect"), 1,
                         result.stderr)

    def test_odd_blocks_many_threads_and_polling(self):
        result = te(*self.ARGUMENTS, "--verify", "--duration", "20ms", "--block-size",
                    "1,7,4097,65539", "--threads", "3", "--batch-size", "5", "--wait", "poll")
        self.assertEqual(result.returncode, 0, result.stderr)
        sizes = (1, 7, 4097, 65539)
        self.assert_measured(json.loads(result.stdout),
                             [(op, size) for size in sizes for op in ("write", "read")])

    def test_batches_are_cut_to_the_memory(self):
        result = te(*self.ARGUMENTS, "--verify", "--duration", "20ms", "--block-size", "1M",
                    "--threads", "3", "--batch-size", "16", "--operation", "read")
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        self.assert_measured(report, [("read", 1 << 20)])
        self.assertEqual(report["cases"][0]["batch_size"], 2)  # of the 8M, a third is each thread's
        self.assertIn("--buffer-size", result.stderr)

    def test_blocks_as_large_as_the_buffer(self):
        result = te(*self.ARGUMENTS, "--verify", "--duration", "20ms", "--block-size", "8M",
                    "--batch-size", "1", "--protocol", "tcp")
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        self.assert_measured(report, [("write", 8 << 20), ("read", 8 << 20)])
        self.assertEqual({path["transport"] for path in report["paths"]}, {"tcp"})

    def test_json_file_and_table(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "figures.json")
            for _ in range(2):  # a second run replaces the first one's file
                result = te("bench", "local", "--buffer-size", "1M", "--duration", "20ms",
                            "--operation", "read", "--json", path)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertRegex(result.stdout, r"(?m)^read +64K +16 +1 +\d")
                with open(path, encoding="utf-8") as file:
                    self.assert_measured(json.load(file), [("read", 65536)])

    def test_json_that_cannot_be_written_fails_before_the_run(self):
        begin = time.monotonic()
        result = te("bench", "local", "--duration", "1h", "--json", "/nonexistent/figures.json")
        self.assert_failed(result, "--json", "/nonexistent/figures.json")
        self.assertLess(time.monotonic() - begin, 30)

    def test_blocks_larger_than_the_buffer(self):
        self.assert_failed(te("bench", "local", "--buffer-size", "1M", "--block-size", "2M"),
                           "--block-size", "2M", "--buffer-size")

    def test_unknown_protocol(self):
        for option in ("--protocol", "--transport"):
            self.assert_failed(te("bench", "local", option, "pigeon"), "pigeon",
                               "shm, rdma, efa, fabric:PROVIDER, tcp")

    def test_a_target_that_fails_is_the_only_one_that_says_so(self):
        result = te("bench", "local", "--host", "203.0.113.9", "--buffer-size", "1M")
        self.assert_failed(result, "203.0.113.9")
        errors = [line for line in result.stderr.splitlines() if line.startswith("te: ")]
        self.assertEqual(len(errors), 1, result.stderr)

    def test_interrupt_shows_what_was_measured(self):
        with measuring(*self.ARGUMENTS, "--duration", "1h") as (process, terminal):
            process.send_signal(signal.SIGINT)
            report = json.loads(process.stdout.read())
            self.assertEqual(process.wait(TIMEOUT_S), 130)
            self.assertIn("Interrupted", rest_of(terminal))
        self.assertEqual(report["error"], "")
        self.assertEqual(len(report["cases"]), 1)
        self.assertTrue(report["cases"][0]["interrupted"])
        self.assertGreater(report["cases"][0]["bytes"], 0)
        self.assertFalse(accepts_connections(report["segment"]), "the target is still there")

    def test_the_target_goes_when_the_command_is_killed(self):
        with measuring(*self.ARGUMENTS, "--duration", "1h") as (process, _):
            children = children_of(process.pid)
            self.assertEqual(len(children), 1)
            process.kill()
            process.wait(TIMEOUT_S)
            wait_until(lambda: not is_running(children[0]), "the target has ended")


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return next((int(line.split()[1]) for line in status if line.startswith("VmRSS")), 0)


class BenchTargetTest(TeTest):
    def test_announces_and_stops_on_either_signal(self):
        for stop in (signal.SIGINT, signal.SIGTERM):
            with target() as (process, announced):
                self.assertTrue(accepts_connections(announced["endpoint"]))
                self.assertEqual(announced["segment"], announced["endpoint"])
                self.assertIn(f"--segment {announced['segment']}", announced["command"])
                process.send_signal(stop)
                self.assertEqual(process.wait(TIMEOUT_S), 0)
                self.assertFalse(accepts_connections(announced["endpoint"]))

    def test_text_has_the_line_for_the_other_side(self):
        result = te("bench", "target", "--host", "127.0.0.1", "--buffer-size", "64K", "--buffers",
                    "3", "--duration", "10ms")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("3 buffers of 64K", result.stdout)
        self.assertRegex(result.stdout, r"te bench initiator --segment 127\.0\.0\.1:\d+\n")

    def test_duration_ends_it(self):
        result = te("bench", "target", "--json", "--buffer-size", "64K", "--duration", "10ms")
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_taken_port(self):
        with socket.create_server(("0.0.0.0", 0)) as taken:
            port = str(taken.getsockname()[1])
            result = te("bench", "target", "--buffer-size", "64K", "--port", port, "--duration",
                        "10ms")
        self.assert_failed(result, port)

    def test_a_signal_ends_the_filling_of_memory(self):
        with started("bench", "target", "--buffer-size", "8G", stdout=subprocess.PIPE,
                     stderr=subprocess.PIPE) as process:
            wait_until(lambda: resident_kib(process.pid) > 100 << 10, "filling memory")
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=TIMEOUT_S)
        self.assertEqual((process.returncode, output, errors), (0, "", ""))

    def test_buffers_that_are_too_much_together(self):
        result = te("bench", "target", "--buffers", "65536", "--buffer-size", "1G")
        self.assert_failed(result, "65536 buffers of 1G", "--buffers")

    def test_too_much_memory(self):
        self.assert_failed(te("bench", "target", "--buffer-size", "64T", "--duration", "10ms"),
                           "--buffer-size")


class BenchInitiatorTest(TeTest):
    def test_measures_a_target_again_and_again(self):
        with target("--buffers", "2") as (_, announced):
            for _ in range(2):
                result = te("bench", "initiator", "--segment", announced["segment"], "--duration",
                            "50ms", "--operation", "write", "--verify", "--json", "-")
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assert_measured(json.loads(result.stdout), [("write", 65536)])

    def test_the_announced_command_works(self):
        with target() as (_, announced):
            words = announced["command"].split()
            self.assertEqual(words[0], "te")
            result = te(*words[1:], "--duration", "20ms")
            self.assertEqual(result.returncode, 0, result.stderr)

    def test_verify_finds_bytes_that_were_overwritten(self):
        # The target's pages are one page, so of a block's four pages one remains.
        with aliased_target(1 << 16) as segment:
            result = te("bench", "initiator", "--segment", segment, "--operation", "write",
                        "--block-size", "16K", "--duration", "50ms", "--verify", "--json", "-")
        self.assert_failed(result, "verify", "segment offset", "are wrong")
        case = json.loads(result.stdout)["cases"][0]
        self.assertEqual(case["errors"], 1)
        # Short ranges within a page, where the 50 ms were over before the first WRITE.
        self.assertLess(case["verified_bytes"], 4096)

    def test_two_initiators_at_once(self):
        with target() as (_, announced):
            line = ("bench", "initiator", "--segment", announced["segment"], "--duration", "100ms")
            with started(*line, stdout=subprocess.DEVNULL) as first, \
                    started(*line, stdout=subprocess.DEVNULL) as second:
                self.assertEqual((first.wait(TIMEOUT_S), second.wait(TIMEOUT_S)), (0, 0))

    def test_a_target_killed_during_the_run(self):
        with target() as (process, announced):
            with measuring("bench", "initiator", "--segment", announced["segment"], "--duration",
                           "1h", "--json", "-") as (initiator, terminal):
                process.kill()
                killed = time.monotonic()
                report = json.loads(initiator.stdout.read())
                self.assertEqual(initiator.wait(TIMEOUT_S), 1)
                self.assertLess(time.monotonic() - killed, 10)
                text = rest_of(terminal)
        case = report["cases"][0]
        self.assertGreater(case["errors"], 0)
        self.assertGreater(case["bytes"], 0)
        self.assertIn(case["first_error"], report["error"])
        self.assertTrue(case["first_error"])
        self.assertIn("error", text)

    def test_no_such_target(self):
        with socket.create_server(("127.0.0.1", 0)) as unused:
            name = f"127.0.0.1:{unused.getsockname()[1]}"
        self.assert_failed(te("bench", "initiator", "--segment", name), name)

    def test_sigterm_ends_it_early(self):
        with target() as (_, announced):
            with measuring("bench", "initiator", "--segment", announced["segment"], "--duration",
                           "1h") as (initiator, _):
                initiator.send_signal(signal.SIGTERM)
                self.assertEqual(initiator.wait(TIMEOUT_S), 143)
                self.assertIn("Interrupted", initiator.stdout.read())


if __name__ == "__main__":
    main(__doc__)
