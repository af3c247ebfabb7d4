#!/usr/bin/env python3
"""The house rules that a program can check. Prints each breach as FILE:LINE: rule; status 1 if any.

Files have at most 600 lines, functions 70, lines 100 columns, classes of the library 20 data
members; layers include only what lies below;
#if asks for no features; nothing is left for later; every test is built; the README shows the
programs that the tests run; threads are started by base/thread.h.
"""
import os
import re
import subprocess
import sys

import class_members

MAX_FILE, MAX_FUNCTION, MAX_COLUMNS, MAX_MEMBERS = 600, 70, 100, 20
# What each folder of src/ may include, beside itself.
LAYERS = {
    "base": set(),
    "core": {"base"},
    "tls": {"base"},
    "transport": {"base", "core", "tls"},
    "directory": {"base", "core"},
    "platform": {"base", "core"},
    "engine": {"base", "core", "tls", "transport", "directory", "platform"},
}
LEFT_FOR_LATER = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
# What transports share, in folders beside theirs.
SHARED_BY_TRANSPORTS = {"progress", "rails"}
INCLUDE = re.compile(r'^#include "([^"]+)"')
# What opens a function's body: a parameter list, or what may follow one.
FUNCTION = re.compile(r"\)( const| noexcept| override| final| mutable|\s*->\s*[\w:<>*& ]+)*"
                      r"( TE_\w+(\(.*\))?)* \{$")
NO_FUNCTION = re.compile(r"\s*(\}|//|\*|#|if|for|while|switch|do|else|return|namespace|class|struct"
                         r"|enum|union|extern|case|try|catch)\b|\s*[}/*#]")
ENDS = (";", "{", "}", ":", ">", '"', "*/")
# The compiler, the language, the library's version, the side of the C header.
PLAIN_IF = re.compile(r"__clang__|__cplusplus|_VERSION_NUM|TE_BUILDING_LIBRARY|_H\b|__has_|"
                      r"__SANITIZE")
# What the README shows is what the tests run.
GENERATED = "rust/src/bindings.rs"
SHOWN = {"cpp": "examples/cpp/minimal.cpp", "c": "examples/c/minimal.c",
         "python": "examples/python/minimal.py", "rust": "rust/examples/minimal.rs"}


def files():
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        check=True, capture_output=True, text=True)
    return [name for name in listed.stdout.splitlines()
            if re.search(r"(\.(cpp|h|c|rs|py|sh)|^dev)$", name) and name != GENERATED]


def check_function_lengths(lines, report):
    """clang-format closes a body in the column in which its definition, or its last line, began.

    Of a lambda or a control statement only the function around it counts.
    """
    for number, line in enumerate(lines):
        if not FUNCTION.search(line) or NO_FUNCTION.match(line):
            continue
        start = number
        while start and lines[start - 1] and not lines[start - 1].rstrip().endswith(ENDS):
            start -= 1
        indent = len(lines[start]) - len(lines[start].lstrip())
        if indent > 2 or NO_FUNCTION.match(lines[start]):
            continue
        closing = " " * indent + "}"
        end = next((n for n in range(number + 1, len(lines))
                    if lines[n].startswith(closing)), number)
        if end - start + 1 > MAX_FUNCTION:
            report(start + 1, f"a function of {end - start + 1} lines (at most {MAX_FUNCTION})")


def check_members(name, lines, report):
    """A class with more has parts that want names, and invariants, of their own."""
    if not name.startswith(("src/", "include/")):
        return
    for number, which, members in class_members.classes("\n".join(lines)):
        if members > MAX_MEMBERS:
            report(number, f"{which} has {members} data members (at most {MAX_MEMBERS})")


def check_features(name, lines, report):
    """What this machine has is found out at run time; only who loads a vendor's library may ask."""
    for number, line in enumerate(lines, 1):
        if re.match(r"\s*#\s*(if|ifdef|ifndef|elif)\b", line) and not PLAIN_IF.search(line):
            report(number, "an #if for a feature: find it out at run time")


def check_includes(name, lines, report):
    parts = name.split("/")
    for number, line in enumerate(lines, 1):
        found = INCLUDE.match(line)
        if found and parts[0] == "include" and not found[1].startswith("transfer_engine/"):
            report(number, "a public header includes one that is not installed")
        if found and parts[0] == "tools" and found[1].split("/")[0] in LAYERS:
            report(number, "tools use the public API alone")
    if parts[0] != "src" or parts[1] not in LAYERS:
        return
    layer = parts[1]
    for number, line in enumerate(lines, 1):
        found = INCLUDE.match(line)
        if not found:
            continue
        other = found[1].split("/")[0]
        if other in LAYERS and other != layer and other not in LAYERS[layer]:
            report(number, f"{layer} includes {other}")
        if layer == "transport" and other == "transport" and len(parts) > 3:
            target = found[1].split("/")
            if len(target) > 2 and target[1] not in {parts[2]} | SHARED_BY_TRANSPORTS:
                report(number, f"transport {parts[2]} includes transport {target[1]}")
        concrete = re.match(r"transport/\w+/", found[1])
        if layer == "engine" and concrete:
            report(number, "only transport/factories.cpp names concrete transports")


def check_threads(name, lines, report):
    """The standard's threads throw where a limit is reached."""
    if not name.startswith("src/") or name.startswith("src/base/thread."):
        return
    for number, line in enumerate(lines, 1):
        code = line.split("//")[0]
        if re.search(r"\bstd::(jthread|async|thread\b(?!::))|\bpthread_create\b", code):
            report(number, "starts a thread: use base/thread.h, whose failure is a Status")


def check(name):
    breaches = []

    def report(number, what):
        breaches.append(f"{name}:{number}: {what}")

    if not os.path.exists(name):
        return []  # deleted, and not committed yet
    with open(name, encoding="utf-8") as file:
        lines = file.read().split("\n")
    if len(lines) - 1 > MAX_FILE:
        report(MAX_FILE, f"{len(lines) - 1} lines (at most {MAX_FILE})")
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_COLUMNS and "http" not in line:
            report(number, f"{len(line)} columns (at most {MAX_COLUMNS})")
        if LEFT_FOR_LATER.search(line) and name != "scripts/style_check.py":
            report(number, "something is left for later")
        if line.endswith((" ", "\t")):
            report(number, "white space at the end")
    guard = r"#pragma once$|#ifndef \w+_H_?$"
    if name.endswith(".h") and not any(re.match(guard, line) for line in lines):
        report(1, "neither #pragma once nor, for C, an include guard")
    if name.endswith((".cpp", ".h")):
        check_function_lengths(lines, report)
        check_includes(name, lines, report)
        check_threads(name, lines, report)
        check_members(name, lines, report)
        if name.startswith(("include/", "src/", "tools/")):
            check_features(name, lines, report)
    return breaches


def check_tests_are_built():
    """A folder of tests without a list would be left out in silence."""
    folders = {name.rpartition("/")[0] for name in files() if name.endswith("_test.cpp")}
    return [f"{folder}: has tests, but no CMakeLists.txt builds them" for folder in sorted(folders)
            if not os.path.exists(f"{folder}/CMakeLists.txt")]


def check_readme():
    with open("README.md", encoding="utf-8") as file:
        readme = file.read()
    breaches = []
    for language, name in SHOWN.items():
        with open(name, encoding="utf-8") as file:
            if f"```{language}\n{file.read()}```\n" not in readme:
                breaches.append(f"README.md:1: its {language} program is not {name}")
    return breaches


def main():
    breaches = [breach for name in files() for breach in check(name)]
    breaches += check_tests_are_built() + check_readme()
    print("\n".join(breaches) if breaches else "no breach")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
