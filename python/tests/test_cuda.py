"""Arrays of a GPU, and transfers that follow streams and events: cuda_cases.py, on a CUDA driver of
the tests' own making. TE_FAKE_CUDA names that library; `./dev test` sets it.
"""
import os
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
DRIVER = os.environ.get("TE_FAKE_CUDA", "")

pytestmark = pytest.mark.skipif(
    not DRIVER, reason="TE_FAKE_CUDA does not name the tests' CUDA driver: `./dev test` builds it")


@pytest.mark.parametrize("case", [
    "arrays_are_written_and_read", "wrong_arrays_are_refused",
    "transfers_follow_streams_and_events"])
def test_on_the_driver_of_the_tests(case):
    program = os.path.join(HERE, "cuda_cases.py")
    ended = subprocess.run([sys.executable, program, DRIVER, case], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout
