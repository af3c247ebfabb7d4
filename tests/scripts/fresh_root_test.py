"""scripts/fresh_root.sh: a root that cannot be made whole is not kept, and the reason is shown.

The real root is what CI runs in. Status 77: these tests take root.
"""
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
SCRIPT = os.path.join(ROOT, "scripts/fresh_root.sh")
# The last argument but one is the folder to make.
HALF_A_ROOT = """#!/bin/sh
for argument; do case "$argument" in */root) folder=$argument ;; esac; done
mkdir -p "$folder/etc"
echo "I: Retrieving half of it"
"""


class Creation(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.cache = os.path.join(scratch.name, "cache/transfer_engine/fresh")
        self.programs = os.path.join(scratch.name, "bin")
        os.makedirs(self.programs)
        self.environment = dict(os.environ, XDG_CACHE_HOME=os.path.join(scratch.name, "cache"),
                                PATH=self.programs + ":" + os.environ["PATH"])

    def debootstrap(self, end):
        path = os.path.join(self.programs, "debootstrap")
        with open(path, "w", encoding="utf-8") as file:
            file.write(HALF_A_ROOT + end)
        os.chmod(path, 0o755)

    def start(self):
        return subprocess.Popen([SCRIPT, "true"], env=self.environment, text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, start_new_session=True)

    def folders(self):
        """What looks like a root, whole or not."""
        return [name for name in os.listdir(self.cache) if name.startswith(("bookworm", "new."))]

    def test_a_failed_creation_says_why_and_leaves_nothing(self):
        self.debootstrap("echo 'E: no such mirror' >&2\nexit 1\n")
        started = self.start()
        _, errors = started.communicate()
        self.assertNotEqual(started.returncode, 0)
        self.assertIn("E: no such mirror", errors)
        self.assertIn("debootstrap failed", errors)
        self.assertEqual(self.folders(), [])

    def test_what_a_killed_creation_left_is_removed_by_the_next(self):
        self.debootstrap("touch \"$folder/half\"\nexec sleep 600\n")
        started = self.start()
        deadline = time.monotonic() + 120
        while not any(os.path.exists(os.path.join(self.cache, name, "root/half"))
                      for name in (os.listdir(self.cache) if os.path.isdir(self.cache) else [])):
            self.assertLess(time.monotonic(), deadline, "debootstrap was not reached")
            time.sleep(0.05)
        os.killpg(started.pid, signal.SIGKILL)
        started.communicate()
        self.assertEqual(len(self.folders()), 1)

        self.debootstrap("exit 1\n")
        self.start().communicate()
        self.assertEqual(self.folders(), [])


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("SKIPPED: it takes root")
        sys.exit(77)
    unittest.main()
