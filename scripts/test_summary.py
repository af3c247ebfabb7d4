#!/usr/bin/env python3
"""Sums up a ctest JUnit file and the output of `cargo test`.

Usage: test_summary.py TESTS.xml RUST.log
Prints what was skipped and why, and last "N passed, N failed, N skipped". Exit status 1 when anything
failed, or nothing ran.
"""
import re
import sys
import xml.etree.ElementTree as ElementTree


def ctest_counts(path):
    """Passed, failed and skipped tests; a test that says it was skipped counts as skipped."""
    passed, failed, skipped = 0, 0, []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        status = case.get("status")
        output = case.findtext("system-out") or ""
        if status == "fail" or case.find("failure") is not None:
            failed += 1
        elif status in ("notrun", "disabled") or case.find("skipped") is not None:
            reason = re.search(r"(?im)^.*skip.*$", output)
            skipped.append((case.get("name"), skip_reason(output) or (reason and reason[0])))
        else:
            passed += 1
    return passed, failed, skipped


def skip_reason(output):
    """The text after GTEST_SKIP(), which Google Test prints on the line after the place."""
    found = re.search(r"Skipped\n(.+)", output)
    return found and found[1]


def cargo_counts(path):
    """The sums of cargo's `test result` lines, and what was skipped."""
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    if text.strip() == "skipped":
        return 0, 0, [("the Rust tests", "no cargo that is new enough")]
    passed = failed = 0
    skipped = []
    for line in re.finditer(r"test result: .*? (\d+) passed; (\d+) failed; (\d+) ignored", text):
        passed += int(line[1])
        failed += int(line[2])
        skipped += [("a Rust test", "ignored")] * int(line[3])
    for line in re.finditer(r"(?m)^SKIPPED:? (.*)$", text):
        skipped.append(("a Rust test", line[1]))
        passed -= 1
    if passed == 0 and failed == 0:
        failed = 1  # cargo ended before any test did
    return passed, failed, skipped


def main():
    passed, failed, skipped = ctest_counts(sys.argv[1])
    rust_passed, rust_failed, rust_skipped = cargo_counts(sys.argv[2])
    passed, failed, skipped = passed + rust_passed, failed + rust_failed, skipped + rust_skipped
    for name, reason in skipped:
        print(f"skipped: {name}: {reason or 'no reason given'}")
    print(f"{passed} passed, {failed} failed, {len(skipped)} skipped")
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
