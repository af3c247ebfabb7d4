"""./dev and scripts/dev_lib.sh: missing packages and wrong arguments, without root or a build."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
# What the commands under test may use beside the stand-ins of a test.
TOOLS = ("bash", "cat", "chmod", "dirname", "env", "grep", "mkdir", "rm", "sed", "sh", "sleep",
         "tee")


class Scratch(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = scratch.name
        self.programs = os.path.join(self.scratch, "bin")
        os.makedirs(self.programs)
        for tool in TOOLS:
            os.symlink(shutil.which(tool), os.path.join(self.programs, tool))
        self.program("id", "echo 1000")  # so that nothing can be installed
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


class Arguments(Scratch):
    def test_without_root_and_sudo_it_names_the_packages_and_what_to_do(self):
        ended = self.run_it("./dev", "demo")
        self.assertEqual(ended.returncode, 1)
        self.assertRegex(ended.stderr, "packages are missing: cmake .*libibverbs-dev\n")
        self.assertRegex(ended.stderr, "as root.*\napt-get update && apt-get install .*libfmt-dev")
        self.assertFalse(self.installed())

    def test_wrong_arguments_are_refused_before_anything_is_installed(self):
        os.symlink(sys.executable, os.path.join(self.programs, "python3"))
        for words in ("bogus", "demo --bogus", "test Registry", "soak abc", "soak 5 --bogus",
                      "soak 0", "soak --directory bogus", "bench --bogus", "bench --rounds",
                      "bench --rounds many", "fuzz abc", "fuzz 0", "fuzz 1 2", "asan --only",
                      "asan --only te_bogus_tests", "tsan te_core_tests",
                      "tsan -R Wire --only te_core_tests", "fresh --bogus", "fresh --rust --bogus"):
            with self.subTest(words):
                ended = self.run_it("./dev", *words.split())
                self.assertEqual(ended.returncode, 2, ended.stderr)
                self.assertIn("usage: ", ended.stderr)
                self.assertFalse(self.installed())

    def test_right_arguments_are_not_refused(self):
        os.symlink(sys.executable, os.path.join(self.programs, "python3"))
        for words in ("soak", "soak 2.5 --transport tcp", "soak --seed 7 --directory etcd",
                      "bench --rdma", "bench --no-micro --rounds 9 --filter TCP", "fuzz 5", "fuzz",
                      "asan --only te_core_tests --only te_soak_tests -R Wire", "tsan -R Wire"):
            with self.subTest(words):
                ended = self.run_it("./dev", *words.split())
                self.assertEqual(ended.returncode, 1)
                self.assertIn("takes root", ended.stderr)  # the next step

    def test_help_takes_nothing_installed(self):
        os.symlink(sys.executable, os.path.join(self.programs, "python3"))
        for words in ("help", "demo --help", "soak --help", "bench --help", "fresh --help"):
            with self.subTest(words):
                ended = self.run_it("./dev", *words.split())
                self.assertEqual((ended.returncode, ended.stderr), (0, ""))
                self.assertIn("usage: ", ended.stdout)
                self.assertFalse(self.installed())

class Policy(Scratch):
    """The file that keeps the servers of packages from starting."""

    def setUp(self):
        super().setUp()
        self.program("id", "echo 0")
        self.policy = os.path.join(self.scratch, "policy")

    def lib(self, command):
        return ("bash", "-euo", "pipefail", "-c",
                f"source scripts/dev_lib.sh; POLICY={self.policy}; "
                f"INSTALL_LOG={self.scratch}/log; {command}")

    def test_it_is_there_while_packages_are_installed(self):
        self.program("apt-get", f"sh {self.policy}; echo $? >>{self.scratch}/apt")
        ended = self.run_it(*self.lib("apt_install some"))
        self.assertEqual(ended.returncode, 0, ended.stderr)
        with open(os.path.join(self.scratch, "apt"), encoding="utf-8") as file:
            self.assertEqual(file.read().split(), ["101", "101"])  # update, install
        self.assertFalse(os.path.exists(self.policy))

    def test_a_failure_removes_it(self):
        self.program("apt-get", "echo 'E: no such package'; exit 100")
        ended = self.run_it(*self.lib("apt_install some"))
        self.assertEqual(ended.returncode, 1)
        self.assertIn("E: no such package", ended.stderr)
        self.assertFalse(os.path.exists(self.policy))

    def test_signals_that_come_together_remove_it(self):
        self.program("apt-get", f": >{self.scratch}/apt; exec sleep 100")
        # The second signal comes while the first one's clean-up is under way.
        removal = os.path.join(self.programs, "rm")
        os.remove(removal)
        self.program("rm", f"kill -TERM 0; exec {shutil.which('rm')} \"$@\"")
        with subprocess.Popen(self.lib("apt_install some"), cwd=ROOT, env={"PATH": self.programs},
                              start_new_session=True) as started:
            while not self.installed() and started.poll() is None:
                time.sleep(0.02)
            self.assertTrue(os.path.exists(self.policy))
            os.killpg(started.pid, signal.SIGTERM)
        self.assertEqual(started.returncode, 130)
        self.assertFalse(os.path.exists(self.policy))

    def write_policy(self, process):
        ended = self.run_it(*self.lib(f'printf "%s{process}\\n" "$POLICY_MARK" >"$POLICY"'))
        self.assertEqual(ended.returncode, 0, ended.stderr)

    def test_that_of_a_killed_run_is_removed(self):
        with subprocess.Popen("true") as gone:
            pass
        self.write_policy(gone.pid)
        ended = self.run_it(*self.lib("install_packages"))
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertFalse(os.path.exists(self.policy))

    def test_that_of_another_run_or_of_the_machine_stays(self):
        self.write_policy(os.getpid())
        self.run_it(*self.lib("install_packages; apt_install some"))
        self.assertTrue(os.path.exists(self.policy))
        with open(self.policy, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\nexit 101\n")
        self.run_it(*self.lib("install_packages; apt_install some"))
        self.assertTrue(os.path.exists(self.policy))


if __name__ == "__main__":
    unittest.main()
