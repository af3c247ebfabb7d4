"""The program that the README shows."""
import os
import subprocess
import sys

from conftest import HERE


def test_the_minimal_program():
    program = os.path.join(HERE, "../../examples/python/minimal.py")
    result = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60,
                            check=False)
    assert (result.returncode, result.stdout, result.stderr) == (
        0, "wrote and read 4096 bytes, equal\n", "")
