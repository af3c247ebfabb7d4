#!/usr/bin/env python3
"""The house rules that a program can check. Prints each breach as FILE:LINE: rule; exit status 1 if any.

Files have at most 600 lines, functions 70, lines 100 columns; layers include only what lies below;
nothing is left for later; C++ headers stand alone with #pragma once.
"""
import re
import subprocess
import sys

MAX_FILE, MAX_FUNCTION, MAX_COLUMNS = 600, 70, 100
# What each folder of src/ may include, beside itself.
LAYERS = {
    "base": set(),
    "core": {"base"},
    "transport": {"base", "core"},
    "directory": {"base", "core"},
    "platform": {"base", "core"},
    "engine": {"base", "core", "transport", "directory", "platform"},
}
LEFT_FOR_LATER = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
INCLUDE = re.compile(r'^#include "([^"]+)"')


def files():
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], check=True, capture_output=True, text=True)
    return [name for name in listed.stdout.splitlines()
            if re.search(r"(\.(cpp|h|c|rs|py|sh)|^dev)$", name)]


def check_function_lengths(name, lines, report):
    """A definition that begins in the first column ends with a brace there."""
    start = None
    for number, line in enumerate(lines, 1):
        if start is None and line.endswith("{") and re.match(r"[A-Za-z].*\)( const| noexcept| override)*( \{|.*\{)$", line) \
                and not re.match(r"(namespace|class|struct|enum|union|extern)\b", line):
            start = number
        elif line.startswith("}") and start is not None:
            if number - start + 1 > MAX_FUNCTION:
                report(start, f"a function of {number - start + 1} lines (at most {MAX_FUNCTION})")
            start = None


def check_includes(name, lines, report):
    parts = name.split("/")
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
            if len(target) > 2 and target[1] != parts[2]:
                report(number, f"transport {parts[2]} includes transport {target[1]}")
        concrete = re.match(r"transport/\w+/", found[1])
        if layer == "engine" and concrete and name != "src/engine/transports.cpp":
            report(number, "only engine/transports.cpp names concrete transports")


def check(name):
    breaches = []

    def report(number, what):
        breaches.append(f"{name}:{number}: {what}")

    with open(name, encoding="utf-8") as file:
        lines = file.read().split("\n")
    if len(lines) - 1 > MAX_FILE:
        report(MAX_FILE, f"{len(lines) - 1} lines (at most {MAX_FILE})")
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_COLUMNS and "http" not in line and not name.endswith(".py"):
            report(number, f"{len(line)} columns (at most {MAX_COLUMNS})")
        if LEFT_FOR_LATER.search(line) and name != "scripts/style_check.py":
            report(number, "something is left for later")
        if line.endswith((" ", "\t")):
            report(number, "white space at the end")
    if name.endswith(".h") and name != "include/transfer_engine_c.h" and "#pragma once" not in lines:
        report(1, "no #pragma once")
    if name.endswith((".cpp", ".h")):
        check_function_lengths(name, lines, report)
        check_includes(name, lines, report)
    return breaches


def main():
    breaches = [breach for name in files() for breach in check(name)]
    print("\n".join(breaches) if breaches else "no breach")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
