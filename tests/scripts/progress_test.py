"""scripts/progress.sh: what is shown of a build, and of one that fails."""
import os
import subprocess
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")


def shown(function, text, every_s=0):
    script = f"source scripts/progress.sh; PROGRESS_EVERY_S={every_s}; {function}"
    ended = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=ROOT, input=text,
                           text=True, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


class Build(unittest.TestCase):
    def test_steps_become_one_line_each_time(self):
        lines = shown("show_build Building",
                      "[1/4] Building CXX object src/a.cpp.o\n[2/4] Building CXX object b.cpp.o\n")
        self.assertEqual(lines, ["Building: 25 %", "Building: 50 %"])

    def test_without_a_terminal_lines_are_rare(self):
        steps = "".join(f"[{number}/900] Building CXX object\n" for number in range(1, 900))
        self.assertEqual(shown("show_build Building", steps, every_s=10), [])

    def test_a_failure_shows_the_error_and_not_the_command(self):
        lines = shown("show_build Building", "\n".join([
            "-- Configuring done", "[1/4] Building CXX object src/a.cpp.o",
            "FAILED: src/a.cpp.o ", "/usr/bin/c++ -DA -DB -o src/a.cpp.o -c a.cpp",
            "a.cpp:3:1: error: no such thing", "    3 | [0/1] x;", "      | ^",
            "ninja: build stopped: subcommand failed.", ""]), every_s=10)
        self.assertEqual(lines, [
            "FAILED: src/a.cpp.o ", "a.cpp:3:1: error: no such thing", "    3 | [0/1] x;",
            "      | ^", "ninja: build stopped: subcommand failed."])

    def test_a_failure_is_not_called_done(self):
        slow = "(sleep 2.1; cat) | show_build Building"
        self.assertRegex(
            shown(slow, "[1/4] Building\nFAILED: a.o \nc++ a.cpp\na.cpp:3:1: error: so\n")[-1],
            "^Building: failed after [0-9]+ s$")
        self.assertRegex(shown(slow, "[1/4] Building\nninja: build stopped: interrupted.\n")[-1],
                         "^Building: failed after [0-9]+ s$")
        self.assertRegex(shown(slow, "[4/4] Building\n")[-1], "^Building: done in [0-9]+ s$")

    def test_a_warning_is_shown(self):
        lines = shown("show_build Building", "[1/2] Building\na.cpp:1:1: warning: odd\n", 10)
        self.assertEqual(lines, ["a.cpp:1:1: warning: odd"])

    def test_nothing_to_build_says_nothing(self):
        slow = "(sleep 2.5; cat) | show_build Building"
        self.assertEqual(shown(slow, "[0/1] Re-running CMake...\nninja: no work to do.\n"), [])

    def test_the_remaining_time_is_that_of_the_steps_so_far(self):
        lines = shown("progress_start Building; progress_since=$((SECONDS - 30)); "
                      "progress 10 40", "")
        self.assertRegex("".join(lines), "^Building: 25 %, about 1 min [0-9]+ s left$")

    def test_the_first_tenth_is_not_enough_for_a_time(self):
        lines = shown("progress_start Building; progress_since=$((SECONDS - 30)); "
                      "progress 3 40; progress 4 40", "")
        self.assertEqual(lines[0], "Building: 7 %")
        self.assertRegex(lines[1], "^Building: 10 %, about 4 min [0-9]+ s left$")

    def test_steps_under_way_count_half(self):
        # Four at once, 30 s each: after 75 s 8 are done and 4 are half done, and 150 s remain.
        lines = shown("progress_start Building; progress_since=$((SECONDS - 75)); "
                      "progress 8 30 22 4", "")
        self.assertRegex("".join(lines), "^Building: 26 %, about 2 min (3[0-9]|4[0-9]) s left$")

    def test_steps_from_ccache_give_no_time(self):
        # Compiling took no step 0.3 s, so that the links to come would count as next to nothing.
        lines = shown("progress_start Building; progress_since=$((SECONDS - 30)); "
                      "progress 400 420 34 4; progress 200 420 234 4", "")
        self.assertEqual(lines[0], "Building: 95 %")
        self.assertRegex(lines[1], "^Building: 47 %, about [0-9]+ s left$")


class Wheel(unittest.TestCase):
    def test_of_what_pip_says_the_steps_are_shown(self):
        lines = shown("show_wheel", "\n".join([
            "Processing ./python", "  Running command Building wheel",
            "  *** Building project with Ninja...", "  [1/4] Building CXX object src/a.cpp.o",
            "  [2/4] Building CXX object b.cpp.o", "  -- Installing: a.so",
            "  *** Making wheel...", "Successfully built", ""]))
        self.assertEqual(lines, ["Building the wheel: 25 %", "Building the wheel: 50 %"])

    def test_an_error_of_the_compiler_is_shown(self):
        lines = shown("show_wheel", "\n".join([
            "  [1/4] Building CXX object src/a.cpp.o", "  FAILED: src/a.cpp.o ", "  c++ -c a.cpp",
            "  a.cpp:3:1: error: no such thing", "  ninja: build stopped: subcommand failed.",
            "  *** CMake build failed", "  error: subprocess-exited-with-error", ""]), every_s=10)
        self.assertEqual(lines, ["FAILED: src/a.cpp.o ", "a.cpp:3:1: error: no such thing",
                                 "ninja: build stopped: subcommand failed."])


class Install(unittest.TestCase):
    def test_a_failure_is_not_called_done(self):
        slow = "(sleep 2.1; cat) | show_install"
        self.assertRegex(shown(slow, "dlstatus:1:12.5:Retrieving file 1 of 2\nfailed\n")[-1],
                         "^Downloading packages: failed after [0-9]+ s$")

    def test_both_halves_are_shown(self):
        lines = shown("show_install", "dlstatus:1:12.5:Retrieving file 1 of 2\n"
                      "pmstatus:dpkg-exec:0:Running dpkg\n"
                      "pmstatus:libfmt9:50.1:Unpacking libfmt9\n")
        self.assertEqual(lines, ["Downloading packages: 12 %", "Installing packages: 0 %",
                                 "Installing packages: 50 %"])


if __name__ == "__main__":
    unittest.main()
