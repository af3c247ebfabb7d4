"""What scripts/test_summary.py counts; a run that ended early must not look like a good one."""
import os
import subprocess
import sys
import tempfile
import unittest

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../scripts/test_summary.py")
PASSED = '<testcase name="A.passed" status="run"><system-out>done</system-out></testcase>'
FAILED = '<testcase name="A.failed" status="fail"><failure message=""/></testcase>'
SKIPPED = ('<testcase name="A.skipped" status="notrun">'
           '<skipped message="SKIP_REGULAR_EXPRESSION_MATCHED"/>'
           '<system-out>a_test.cpp:3: Skipped\nno etcd here\n</system-out></testcase>')
MISSING = ('<testcase name="A.missing" status="notrun">'
           '<skipped message="Unable to find executable"/></testcase>')
PARTLY = ('<testcase name="A.partly" status="run"><system-out>test_a ... skipped \'no zsh\'\n'
          'OK (skipped=1)\n</system-out></testcase>')


class Summary(unittest.TestCase):
    def run_it(self, cases, rust="", rust_status="skipped", msrv=None, part=False,
               steps=None, skips_denied=None, python=None):
        with tempfile.TemporaryDirectory() as folder:
            xml, log = os.path.join(folder, "tests.xml"), os.path.join(folder, "rust.log")
            if cases is not None:
                with open(xml, "w", encoding="utf-8") as file:
                    file.write(f"<testsuite>{''.join(cases)}</testsuite>")
            with open(log, "w", encoding="utf-8") as file:
                file.write(rust)
            command = [sys.executable, "-B", SCRIPT, xml] + ([] if part else [log, rust_status])
            if msrv is not None:
                oldest = os.path.join(folder, "msrv.log")
                with open(oldest, "w", encoding="utf-8") as file:
                    file.write(msrv[0])
                command += [oldest, msrv[1]]
            for option, text in (("--python", python), ("--steps", steps),
                                 ("--skips-denied", skips_denied)):
                if text is not None:
                    text = text.replace("LOG", log)
                    named = os.path.join(folder, option.strip("-"))
                    with open(named, "w", encoding="utf-8") as file:
                        file.write(text)
                    command += [option, named] + ([log] if option == "--python" else [])
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
        return ended.returncode, ended.stdout.splitlines()

    def test_counts_both_and_shows_reasons(self):
        status, lines = self.run_it(
            [PASSED, SKIPPED, PARTLY],
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured\n"
            "---- x stdout ----\nSKIPPED: port 2379 is taken\n", "0")
        self.assertEqual((status, lines[-1]), (0, "4 passed, 0 failed, 4 skipped"))
        for reason in ["A.skipped: no etcd here", "A.partly: no zsh", "port 2379 is taken"]:
            self.assertIn(reason, "\n".join(lines))

    def test_python_tests_count(self):
        cases = ('<testcase classname="t" name="a"/><testcase classname="t" name="b[x]">'
                 '<skipped message="no torch here"/></testcase>')
        status, lines = self.run_it([PASSED], python=f"<testsuites><testsuite>{cases}</testsuite>"
                                    "</testsuites>")
        self.assertEqual((status, lines[-1]), (0, "2 passed, 0 failed, 2 skipped"))
        self.assertIn("skipped: t.b[x]: no torch here", lines)
        for kind in ("failure", "error"):
            status, lines = self.run_it([PASSED], python=f"<testsuite>{cases}<testcase "
                                        f'classname="t" name="c"><{kind} message="x">why\nat t.py:3'
                                        f"</{kind}></testcase></testsuite>")
            self.assertEqual((status, lines[-1]), (1, "2 passed, 1 failed, 2 skipped"))
            self.assertEqual(lines[:3], ["failed: t.c; the end of its output:", "  why",
                                         "  at t.py:3"])

    def test_python_tests_that_did_not_run_are_a_failure(self):
        status, lines = self.run_it([PASSED], rust="no wheel\n", python="")
        self.assertEqual((status, lines[-1]), (1, "1 passed, 1 failed, 1 skipped"))
        self.assertIn("failed: the Python tests, which did not run", lines[0])
        self.assertEqual(lines[1], "  no wheel")

    def test_a_failure_fails(self):
        self.assertEqual(self.run_it([PASSED, FAILED])[0], 1)

    def test_a_missing_program_is_a_failure(self):
        status, lines = self.run_it([PASSED, MISSING])
        self.assertEqual((status, lines[-1]), (1, "1 passed, 1 failed, 1 skipped"))

    def test_nothing_that_ran_is_a_failure(self):
        self.assertEqual(self.run_it([])[0], 1)
        self.assertEqual(self.run_it([SKIPPED])[0], 1)
        self.assertEqual(self.run_it(None)[0], 1)

    def test_of_a_part_all_may_be_skipped(self):
        status, lines = self.run_it([SKIPPED], part=True)
        self.assertEqual((status, lines[-1]), (0, "0 passed, 0 failed, 1 skipped"))
        self.assertEqual(self.run_it([], part=True)[0], 1)
        self.assertEqual(self.run_it([SKIPPED, FAILED], part=True)[0], 1)

    def test_cargo_that_ended_early_is_a_failure(self):
        text = "test result: ok. 3 passed; 0 failed; 0 ignored\nerror: signal 11\n"
        self.assertEqual(self.run_it([PASSED], text, "101")[0], 1)
        self.assertEqual(self.run_it([PASSED], "error: could not compile\n", "101")[0], 1)
        self.assertEqual(self.run_it([PASSED], text, "0")[0], 0)

    def test_the_oldest_rust_counts_as_one(self):
        for msrv, last in [(("builds\n", "0"), "2 passed, 0 failed, 1 skipped"),
                           (("error[E0658]\n", "1"), "1 passed, 1 failed, 1 skipped"),
                           (("skipped: no rustup\n", "77"), "1 passed, 0 failed, 2 skipped")]:
            status, lines = self.run_it([PASSED], msrv=msrv)
            self.assertEqual((status, lines[-1]), (int(msrv[1] == "1"), last))
        self.assertIn("skipped: the build with the oldest Rust: no rustup", lines)

    def test_other_steps_count_as_one_each(self):
        for steps, last in [("0 LOG a soak\n", "2 passed, 0 failed, 1 skipped"),
                            ("0 LOG a soak\n3 LOG tsan\n", "2 passed, 1 failed, 1 skipped"),
                            ("77 LOG a soak\n", "1 passed, 0 failed, 2 skipped"),
                            ("", "1 passed, 0 failed, 1 skipped")]:
            status, lines = self.run_it([PASSED], steps=steps)
            self.assertEqual((status, lines[-1]), (int("3" in steps), last))

    def test_the_end_of_what_failed_is_shown_again(self):
        lines = self.run_it([PASSED], rust="one\ntwo\n", rust_status="0", steps="3 LOG a soak\n")[1]
        at = lines.index("failed: a soak, with exit status 3; the end of its output:")
        self.assertEqual(lines[at + 1:at + 3], ["  one", "  two"])
        failed = '<testcase name="A.b" status="fail"><system-out>why\n</system-out></testcase>'
        self.assertEqual(self.run_it([failed], part=True)[1][:2],
                         ["failed: A.b; the end of its output:", "  why"])

    def test_a_skip_that_is_denied_is_a_failure(self):
        status, lines = self.run_it([PASSED, SKIPPED], part=True, skips_denied="# zsh\n\nno etcd")
        self.assertEqual((status, lines[-1]), (1, "1 passed, 1 failed, 0 skipped"))
        self.assertIn("A.skipped: skipped, which", lines[0])
        status, lines = self.run_it([PASSED, SKIPPED, PARTLY], part=True, skips_denied="no qemu\n")
        self.assertEqual((status, lines[-1]), (0, "2 passed, 0 failed, 2 skipped"))


if __name__ == "__main__":
    unittest.main()
