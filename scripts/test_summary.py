#!/usr/bin/env python3
"""Sums up the JUnit files of ctest and pytest, and the output of `cargo test` and check-msrv.sh.

Usage: test_summary.py [--python FILE LOG] [--steps FILE] [--skips-denied FILE]
                       TESTS.xml [RUST.log RUST_STATUS [MSRV.log MSRV_STATUS]]
The statuses are exit statuses; RUST_STATUS is "skipped" when cargo was not run. TESTS.xml alone:
of a part of ctest's tests, which may all be skipped.
--python: pytest's JUnit file, and the output of the step that runs it.
--steps: other checks, one line each: the exit status (77: skipped), the file with its output and
the name; each counts as one test.
--skips-denied: patterns of reasons, one a line, for which no test may be skipped: such a skip is a
failure.
Prints the end of the output of what failed, what was skipped and why, and last "N passed, N failed,
N skipped". Exit status 1 when anything failed, or nothing ran.
"""
import argparse
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import deque


def ctest_counts(path):
    """Passed, failed, and the skipped ones with their reasons."""
    try:
        cases = list(ElementTree.parse(path).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        print(f"no result of ctest: {error}")
        return 0, 1, []
    passed, failed, skipped = 0, 0, []
    for case in cases:
        name, status = case.get("name"), case.get("status")
        output = case.findtext("system-out") or ""
        # ctest says "not run" of a test that skipped itself, and of one whose program is missing.
        ran = case.find("skipped") is None or "SKIP" in case.find("skipped").get("message", "")
        if status == "fail" or case.find("failure") is not None or not ran and status != "disabled":
            print(f"failed: {name}; the end of its output:")
            show_end(output.splitlines())
            failed += 1
        elif status in ("notrun", "disabled"):
            skipped.append((name, skip_reason(output)))
        else:
            passed += 1
            # A Python program of several cases is one test to ctest.
            for part in re.finditer(r"(?m)^OK \(skipped=(\d+)\)", output):
                reasons = re.findall(r"(?m) \.\.\. skipped ['\"](.+)['\"]$", output)
                skipped += [(f"a case of {name}", "; ".join(reasons))] * int(part[1])
    return passed, failed, skipped


def show_end(lines):
    """Of what failed, since a log may be cut above, where it was printed first."""
    for line in deque(lines, 40):
        print(f"  {line.rstrip()}")


def show_end_of(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        show_end(file)


def pytest_counts(path, log):
    """Passed, failed, and the skipped ones with their reasons."""
    try:
        cases = list(ElementTree.parse(path).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        print(f"failed: the Python tests, which did not run: {error}; the end of their output:")
        show_end_of(log)
        return 0, 1, []
    passed, failed, skipped = 0, 0, []
    for case in cases:
        name = f"{case.get('classname')}.{case.get('name')}"
        problems = case.findall("failure") + case.findall("error")
        if problems:
            print(f"failed: {name}; the end of its output:")
            show_end("\n".join(problem.text or "" for problem in problems).splitlines())
            failed += 1
        elif case.find("skipped") is not None:
            skipped.append((name, case.find("skipped").get("message")))
        else:
            passed += 1
    return passed, failed, skipped


def skip_reason(output):
    """The text after GTEST_SKIP(), which Google Test prints below the place, or a script's line."""
    found = re.search(r"Skipped\n(.+)", output) or re.search(r"(?im)^(?:skipped:? *)(.+)$", output)
    return found and found[1].strip()


def cargo_counts(path, status):
    """The sums of cargo's `test result` lines, and what was skipped."""
    if status == "skipped":
        return 0, 0, [("the Rust tests", "no cargo that is new enough")]
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    passed = failed = 0
    skipped = []
    for line in re.finditer(r"test result: .*? (\d+) passed; (\d+) failed; (\d+) ignored", text):
        passed += int(line[1])
        failed += int(line[2])
        skipped += [("a Rust test", "ignored")] * int(line[3])
    for line in re.finditer(r"(?m)^SKIPPED:? (.*)$", text):
        skipped.append(("a Rust test", line[1]))
        passed -= 1
    # It did not compile, or a test ended the whole program: no line says so.
    if failed == 0 and (status != "0" or passed == 0):
        print(f"failed: cargo test, with exit status {status}")
        failed = 1
    return passed, failed, skipped


def msrv_counts(path, status):
    """Of the build with the oldest Rust, which counts as one test."""
    if status == "0":
        return 1, 0, []
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    if status == "77":
        return 0, 0, [("the build with the oldest Rust", skip_reason(text))]
    print(f"failed: rust/check-msrv.sh, with exit status {status}")
    return 0, 1, []


def step_counts(path):
    """Of other checks, each of which counts as one test."""
    with open(path, encoding="utf-8") as file:
        steps = [line.strip().split(maxsplit=2) for line in file if line.strip()]
    skipped = [(name, "as it said above") for status, _, name in steps if status == "77"]
    failed = [step for step in steps if step[0] not in ("0", "77")]
    for status, log, name in failed:
        print(f"failed: {name}, with exit status {status}; the end of its output:")
        show_end_of(log)
    return len(steps) - len(failed) - len(skipped), len(failed), skipped


def divide_skipped(skipped, path):
    """Those that the file does not deny, and how many it does."""
    if path is None:
        return skipped, 0
    with open(path, encoding="utf-8") as file:
        patterns = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    allowed = []
    for name, reason in skipped:
        if any(re.search(pattern, reason or "") for pattern in patterns):
            print(f"failed: {name}: skipped, which {path} denies: {reason}")
        else:
            allowed.append((name, reason))
    return allowed, len(skipped) - len(allowed)


def parse_arguments():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--python", nargs=2)
    parser.add_argument("--steps")
    parser.add_argument("--skips-denied")
    parser.add_argument("files", nargs="+")
    arguments = parser.parse_args()
    if len(arguments.files) not in (1, 3, 5):
        parser.error("it takes 1, 3 or 5 arguments")
    return arguments


def main():
    arguments = parse_arguments()
    files = arguments.files
    parts = [ctest_counts(files[0])]
    if len(files) >= 3:
        parts.append(cargo_counts(files[1], files[2]))
    if len(files) == 5:
        parts.append(msrv_counts(files[3], files[4]))
    if arguments.python:
        parts.append(pytest_counts(*arguments.python))
    if arguments.steps:
        parts.append(step_counts(arguments.steps))
    passed = sum(part[0] for part in parts)
    failed = sum(part[1] for part in parts)
    skipped, denied = divide_skipped([each for part in parts for each in part[2]],
                                          arguments.skips_denied)
    failed += denied
    for name, reason in skipped:
        print(f"skipped: {name}: {reason or 'no reason given'}")
    print(f"{passed} passed, {failed} failed, {len(skipped)} skipped")
    nothing = passed == 0 and (len(files) > 1 or not skipped)
    return 1 if failed or nothing else 0


if __name__ == "__main__":
    sys.exit(main())
