"""Runs the cases of mooncake_*_cases.py against a package that provides Mooncake's API.

    mooncake_differential.py --record                  with Mooncake's wheel installed
    mooncake_differential.py --check                   the same: it still does what was recorded
    mooncake_differential.py --compare                 ours, with what was recorded
    mooncake_differential.py --run MODULE [CASE]...    prints what a module does

Each case is a process of its own with a time limit, so a crash or a hang is a result too.
mooncake_recorded.json holds the results of Mooncake's wheel. mooncake_differences.json lists where
ours is meant to differ, with the reason: there, ours must do exactly what the list says.
"""
import argparse
import concurrent.futures
import importlib
import importlib.metadata
import json
import os
import pathlib
import signal
import subprocess
import sys

import mooncake_call_cases
import mooncake_support
import mooncake_transfer_cases

HERE = pathlib.Path(__file__).resolve().parent
RECORDED = HERE / "mooncake_recorded.json"
DIFFERENCES = HERE / "mooncake_differences.json"
OURS = "transfer_engine.mooncake"
LIMIT_S = 60


def cases_of(file):
    """The functions of its own with the arguments (see, te)."""
    return {name: value for name, value in vars(file).items()
            if getattr(value, "__module__", None) == file.__name__
            and value.__code__.co_varnames[:value.__code__.co_argcount] == ("see", "te")}


CASES = {**cases_of(mooncake_call_cases), **cases_of(mooncake_transfer_cases)}


def run_case(module, case):
    """{label: observation}, and under "ended" how the process ended, if not by itself."""
    command = [sys.executable, __file__, "--child", module, case]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True)
    try:
        output, errors = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        return {**parse(output), "ended": "time limit"}, errors
    # Peers of a case that crashed.
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    seen = parse(output)
    if process.returncode < 0:
        seen["ended"] = signal.Signals(-process.returncode).name
    elif process.returncode != 0:
        seen["ended"] = f"status {process.returncode}"
    return seen, errors


def parse(output):
    return dict(json.loads(line) for line in output.decode().splitlines())


def use_tcp_alone():
    """Ours also has shm between processes of one host; Mooncake's wheel uses TCP there."""
    engine = importlib.import_module(OURS + ".engine")
    install = engine._install

    def install_tcp(made, *arguments):
        install(made, *arguments)
        made.uninstall_transport("shm")

    engine._install = install_tcp


def child(module, case):
    """One case in this process. Ends without destructors: what they do is not compared."""
    if module == OURS:
        use_tcp_alone()
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    see = mooncake_support.See(lambda label, value: print(json.dumps([label, value]), file=out))
    CASES[case](see, importlib.import_module(module))
    out.flush()
    os._exit(0)


def run(module, names, jobs):
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return dict(zip(names, pool.map(lambda name: run_case(module, name), names)))


def compare(case, seen, recorded, differences):
    """Texts of what is not as it should be."""
    stated = differences.get(case, {}).get("ours", {})
    wrong = []
    for label in sorted(set(seen) | set(recorded) | set(stated)):
        expected = stated[label] if label in stated else recorded.get(label)
        if seen.get(label) != expected:
            source = "the list of differences" if label in stated else "Mooncake"
            wrong.append(f"{case}: {label}: {seen.get(label)!r}, {source} has {expected!r}")
        elif label in stated and stated[label] == recorded.get(label):
            wrong.append(f"{case}: {label}: is listed as a difference, and is none")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--record", action="store_true")
    what.add_argument("--check", action="store_true")
    what.add_argument("--compare", action="store_true")
    what.add_argument("--run", metavar="MODULE")
    what.add_argument("--child", nargs=2, metavar=("MODULE", "CASE"))
    parser.add_argument("--module", help="the module instead of the usual one")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("cases", nargs="*")
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
    names = arguments.cases or list(CASES)
    module = arguments.module or arguments.run or (
        "mooncake.engine" if arguments.record or arguments.check else OURS)
    results = run(module, names, arguments.jobs)
    if arguments.record:
        version = importlib.metadata.version("mooncake-transfer-engine-non-cuda")
        recorded = {"package": f"mooncake-transfer-engine-non-cuda {version}",
                    "cases": {name: seen for name, (seen, _) in results.items()}}
        RECORDED.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n")
        return 0
    if arguments.run:
        for name, (seen, errors) in results.items():
            print(name, json.dumps(seen, indent=1, ensure_ascii=False))
            if arguments.cases:
                print(errors.decode(errors="replace"), file=sys.stderr)
        return 0
    recorded = json.loads(RECORDED.read_text())["cases"]
    differences = {} if arguments.check else json.loads(DIFFERENCES.read_text())
    wrong = []
    for name, (seen, errors) in results.items():
        found = compare(name, seen, recorded.get(name, {}), differences)
        if found:
            wrong += found + [errors.decode(errors="replace")]
    print("\n".join(wrong) if wrong else f"{len(results)} cases as recorded")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
