"""`te` on a machine with GPUs: those of tests/support/fake_cuda, which LD_LIBRARY_PATH leads to.

    LD_LIBRARY_PATH=DIRECTORY python3 te_gpu_test.py --te PATH --peer PATH [TestClass ...]
"""

import json
import os
import re
import subprocess
import sys

import te_process
from te_process import TeTest, environment, main, target, te


class GpuTest(TeTest):
    BENCH = ("bench", "local", "--buffer-size", "4M", "--json", "-", "--duration", "30ms",
             "--block-size", "4K,1M", "--operation", "both", "--verify")

    def test_info_lists_gpus_and_what_reaches_them(self):
        result = te("info", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        gpus = json.loads(result.stdout)["gpus"]
        self.assertEqual(gpus["driver"], "CUDA 12.4")
        self.assertEqual([gpu["location"] for gpu in gpus["found"]], ["cuda:0", "cuda:1"])
        for gpu in gpus["found"]:
            self.assertEqual(gpu["model"], "Fake GPU")
            self.assertEqual(gpu["memory_bytes"], 16 << 30)
            self.assertEqual(gpu["rdma"], "dmabuf")
            self.assertEqual(gpu["shm"], "direct to GPUs and allocated memory, else staged")
            self.assertEqual(gpu["efa"], "direct if its provider registers it, else staged")
            self.assertEqual(gpu["other_transports"], "staged")
        text = te("info").stdout
        self.assertIn("GPUs (CUDA 12.4)", text)
        self.assertIn("cuda:1", text)

    def rdma_of_gpus(self, *prefix, setting="FAKE_CUDA_NO_DMABUF"):
        result = subprocess.run([*prefix, te_process.TE, "info", "--json"], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, timeout=te_process.TIMEOUT_S,
                                env=environment(**{setting: "1"}))
        self.assertEqual(result.returncode, 0, result.stderr)
        return [gpu["rdma"] for gpu in json.loads(result.stdout)["gpus"]["found"]]

    def test_info_says_which_module_nics_need_without_a_dmabuf(self):
        # On a /sys/module of the test's own: without modules, and with one.
        for module, expected in (("", "staged: no dmabuf.*nvidia-peermem is not loaded"),
                                 ("nvidia_peermem", "^nvidia-peermem$")):
            prepare = ("mount -t tmpfs none /sys/module && mkdir -p /sys/module/$0 && "
                       "echo ready >&2")
            apart = ("unshare", "--mount", "--map-root-user", "sh", "-c")
            tried = subprocess.run([*apart, prepare, module], stderr=subprocess.PIPE, text=True,
                                   timeout=te_process.TIMEOUT_S)
            if tried.stderr != "ready\n":
                self.skipTest(f"no mount namespace: {tried.stderr}")
            with self.subTest(module=module):
                ways = self.rdma_of_gpus(*apart, prepare + ' && exec "$@"', module)
                self.assertEqual(len(ways), 2)
                for way in ways:
                    self.assertRegex(way, expected)

    def test_info_says_that_gpus_do_not_see_writes_of_nics(self):
        ways = self.rdma_of_gpus(setting="FAKE_CUDA_UNORDERED")
        self.assertEqual(ways, ["staged: it does not see writes of NICs without a flush"] * 2)

    def test_info_says_why_there_are_none(self):
        for settings, reason in (({"FAKE_CUDA_GPUS": "0"}, "cannot be initialized: error 100"),
                                 ({"LD_LIBRARY_PATH": ""}, "libcuda.so.1 is missing")):
            if not settings.get("LD_LIBRARY_PATH", "x") and os.path.exists("/dev/nvidiactl"):
                continue  # this machine has a driver
            with self.subTest(reason=reason):
                result = te("info", "--json", env=environment(**settings))
                self.assertEqual(result.returncode, 0, result.stderr)
                gpus = json.loads(result.stdout)["gpus"]
                self.assertEqual(gpus["found"], [])
                self.assertIn(reason, gpus["reason"])
                self.assertIn(reason, te("info", env=environment(**settings)).stdout)

    def test_bench_measures_memory_of_a_gpu(self):
        for memory in ("cuda:0", "cuda:1"):
            with self.subTest(memory=memory):
                result = te(*self.BENCH, "--memory", memory)
                self.assertEqual(result.returncode, 0, result.stderr)
                report = json.loads(result.stdout)
                self.assertEqual(len(report["cases"]), 4)
                for case in report["cases"]:
                    self.assertGreaterEqual(case["verified_bytes"], case["block_bytes"])

    def bench_of_two_processes(self, **settings):
        """Of an initiator that compared every byte with memory of another GPU: how many bytes were
        staged, and its stderr."""
        with target("--memory", "cuda:1") as (_, announced):
            result = te("bench", "initiator", "--segment", announced["segment"], "--json", "-",
                        "--memory", "cuda:0", "--duration", "30ms", "--block-size", "1M",
                        "--operation", "both", "--verify", env=environment(**settings))
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        for case in report["cases"]:
            self.assertGreaterEqual(case["verified_bytes"], case["block_bytes"])
        return sum(path["staged_bytes"] for path in report["paths"]), result.stderr

    def test_bench_moves_between_gpus_of_two_processes(self):
        staged, said = self.bench_of_two_processes()
        self.assertEqual(staged, 0)
        self.assertNotIn("staged", said)

    def test_what_the_driver_does_not_open_is_staged_and_a_warning_says_so(self):
        staged, said = self.bench_of_two_processes(FAKE_CUDA_FAIL="cuIpcOpenMemHandle")
        self.assertGreaterEqual(staged, 1 << 20)
        lines = re.findall("warning: shm: memory of process .* is staged in host memory: "
                           "cuIpcOpenMemHandle failed", said)
        self.assertEqual(len(lines), 1, said)

    def test_probe_tells_what_memory_is_made_of(self):
        for memory, kind, location in (("cuda:1", "cuda", "cuda:1"), ("cpu", "host", r"\*")):
            with self.subTest(memory=memory), target("--memory", memory) as (_, announced):
                result = te("probe", announced["segment"], "--json")
                self.assertEqual(result.returncode, 0, result.stderr)
                (buffer,) = json.loads(result.stdout)["buffers"]
                self.assertEqual(buffer["kind"], kind)
                self.assertRegex(buffer["location"], location)
                text = te("probe", announced["segment"]).stdout
                self.assertRegex(text, "size +memory +location")
                self.assertRegex(text, f"{kind} +{location} +read, write")

    def bench_of_all_transports(self, *arguments, **settings):
        script = os.path.join(os.path.dirname(__file__), "..", "..", "bench", "gpu.py")
        return subprocess.run([sys.executable, "-B", script, "--te", te_process.TE, "--quick",
                               "--block-size", "64K", *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=100,
                              env=environment(**settings))

    def test_the_bench_of_the_repository_names_the_gpu(self):
        result = self.bench_of_all_transports()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("Fake GPU, CUDA 12.4, cuda:0 (0000:14:00.0)", result.stdout)
        for row in ("shm        write         65536", "tcp        read          65536"):
            self.assertIn(row, result.stdout)

    def test_the_bench_of_the_repository_takes_a_gpu(self):
        for settings, arguments, reason in (
                ({"FAKE_CUDA_GPUS": "0"}, (), "cannot be initialized: error 100"),
                ({}, ("--gpu", "cuda:7"), "there is no cuda:7, only cuda:0, cuda:1")):
            with self.subTest(reason=reason):
                result = self.bench_of_all_transports(*arguments, **settings)
                self.assertEqual(result.returncode, 2)
                self.assertIn("there is no GPU to measure on", result.stderr)
                self.assertIn(reason, result.stderr)

    def test_memory_that_is_not_there_is_an_error(self):
        for memory, reason in (("cuda:7", "cuDeviceGet failed: error 101"),
                               ("gpu:0", "'gpu:0' is no memory"),
                               ("cuda:", "'cuda:' is no memory")):
            with self.subTest(memory=memory):
                result = te(*self.BENCH, "--memory", memory)
                self.assertNotEqual(result.returncode, 0)
                self.assertIn(reason, result.stderr)


if __name__ == "__main__":
    main(__doc__)
