"""`te_suite --quick`: that it measures, verifies and reports. Not how fast anything is.

    python3 te_suite_test.py --te-suite PATH
"""

import argparse
import json
import subprocess
import sys
import unittest

SUITE = None
TIMEOUT_S = 150
ROW_KEYS = {"case", "value", "min", "max", "unit", "limit", "ratio", "bar", "met",
            "verified_bytes", "skipped", "failed"}
# Some of each kind.
FILTER = (r"TCP write 64 KiB x 16$|TCP read 4 KiB x 128$|write of 4 KiB, waiting|local copy 64|"
          r"same-host write 64|submit of 1000 |create an|first TCP|first same-host|"
          r"first memcpy|TCP write .* spin")
SPINNING = "TCP write 4 KiB x 128, 4 threads that spin on status, between namespaces"
CASES = {
    "TCP write 64 KiB x 16", "TCP write 64 KiB x 16, CPU of both sides",
    "TCP read 4 KiB x 128", "TCP read 4 KiB x 128, CPU of both sides",
    "one TCP write of 4 KiB, waiting, p50", "one TCP write of 4 KiB, waiting, p99",
    "local copy 64 KiB x 16", "same-host write 64 KiB x 16",
    "same-host write 64 KiB x 16, by batches",
    "submit of 1000 TCP writes of 4 KiB, each", "status read, batch of 1000",
    "create an engine until it serves", "open a segment, p50",
    "first TCP write of 4 KiB after a warm-up, p50",
    "first same-host write of 4 KiB after a warm-up, p50",
    "first same-host write (allocated) of 4 KiB after a warm-up, p50",
    "first memcpy of 4 KiB into other memory, p50",
    SPINNING,
}


def run(*arguments):
    return subprocess.run([SUITE, *arguments], capture_output=True, text=True, check=False,
                          timeout=TIMEOUT_S)


class QuickTest(unittest.TestCase):
    def test_measures_verifies_and_reports(self):
        result = run("--quick", "--filter", FILTER, "--json", "-")
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        self.assertEqual(set(report["machine"]),
                         {"cpu", "cores", "memory", "kernel", "date", "version"})
        self.assertEqual({row["case"] for row in report["results"]}, CASES)
        for row in report["results"]:
            self.assert_row(row)
        # The table and the progress.
        self.assertIn("Bars met:", result.stderr)
        self.assertIn("[1/", result.stderr)

    def assert_row(self, row):
        self.assertLessEqual(ROW_KEYS, set(row))
        self.assertIsNone(row["failed"], row)
        if row["skipped"] is not None:
            # Where the kernel or its settings forbid it.
            self.assertTrue("same-host" in row["case"] or row["case"] == SPINNING, row)
            self.assertIsNone(row["value"])
            return
        self.assertGreater(row["verified_bytes"], 0, row)
        self.assertLessEqual(row["min"], row["value"])
        self.assertLessEqual(row["value"], row["max"])
        if row["limit"] is not None:
            self.assertAlmostEqual(row["ratio"], row["value"] / row["limit"], places=6)
        if row["bar"] is not None:
            self.assertIn(row["met"], (True, False))

    def test_lists_without_measuring(self):
        result = run("--list", "--filter", "idle|256 peers")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout.splitlines(), [
            "idle engine with 100 connected peers, CPU  (<= 0.2 % of a core)",
            "memory per connected peer  (<= 256 KiB)",
            "TCP write 64 KiB, 256 peers at once  (>= 0.8 of the limit)",
            "the slowest of 256 peers  (>= 0.5 of the limit)",
        ])

    def test_refuses_what_it_does_not_understand(self):
        for arguments in (("--filter", "("), ("--rounds", "0"), ("--nothing",)):
            result = run(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertTrue(result.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--te-suite", required=True)
    options, rest = parser.parse_known_args()
    SUITE = options.te_suite
    unittest.main(argv=[sys.argv[0], *rest])
