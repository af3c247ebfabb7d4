"""./dev and scripts/dev_lib.sh: missing packages and wrong arguments, without root or a build."""
import os
import shutil
import subprocess
import tempfile
import unittest

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
# What the commands under test may use beside the stand-ins of a test.
TOOLS = ("bash", "cat", "chmod", "dirname", "env", "grep", "mkdir", "rm", "sed", "sh", "sleep",
         "tee")


class Dev(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = scratch.name
        self.programs = os.path.join(self.scratch, "bin")
        os.makedirs(self.programs)
        for tool in TOOLS:
            os.symlink(shutil.which(tool), os.path.join(self.programs, tool))
        self.program("id", "echo 0")
        self.program("dpkg-query", "exit 1")  # nothing is installed
        self.program("apt-get", f"echo \"$@\" >>{self.scratch}/apt")

    def program(self, name, text):
        path = os.path.join(self.programs, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\n{text}\n")
        os.chmod(path, 0o755)

    def run_it(self, *command):
        return subprocess.run(command, cwd=ROOT, env={"PATH": self.programs}, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, check=False)

    def installed(self):
        """Whether anything was asked of apt-get."""
        return os.path.exists(os.path.join(self.scratch, "apt"))

    def test_without_root_and_sudo_it_names_the_packages_and_what_to_do(self):
        self.program("id", "echo 1000")
        ended = self.run_it("./dev", "demo")
        self.assertEqual(ended.returncode, 1)
        self.assertRegex(ended.stderr, "packages are missing: cmake .*libibverbs-dev\n")
        self.assertRegex(ended.stderr, "as root.*\napt-get update && apt-get install .*libfmt-dev")
        self.assertFalse(self.installed())


if __name__ == "__main__":
    unittest.main()
