#!/usr/bin/env python3
"""A seeded fault soak: engines, targets and directories as processes on hosts of their own, faults
from a schedule, and a check of every byte and every deadline.

The schedule of faults and the requests are functions of the seed. When they meet in real time is
not: what one run finds, another with the same seed finds probably, not surely.

Exit status: 0 nothing was found; 1 violations; 2 wrong usage; 77 skipped, with the reason.
"""
import argparse
import asyncio
import ctypes
import glob
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile

import soak_checks
from soak_plan import Shape, choose_directory
from soak_processes import Directory
from soak_run import Soak

HERE = os.path.dirname(os.path.abspath(__file__))
SKIPPED = 77
CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWPID = 0x00020000, 0x40000000, 0x20000000
PR_SET_PDEATHSIG, MNT_DETACH = 1, 2
TRANSPORTS = ("default", "tcp", "shm", "rdma")
DIRECTORIES = ("none", "http", "etcd", "redis")
PLANTS = ("ghost", "late", "corrupt", "leak", "crash", "stuck", "unregistered")
LIBC = ctypes.CDLL(None, use_errno=True)


def transport(text):
    if text in TRANSPORTS or text.startswith("fabric:"):
        return text
    raise argparse.ArgumentTypeError(f"{', '.join(TRANSPORTS)} or fabric:PROVIDER")


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="./dev soak", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", nargs="?", type=float, default=60)
    parser.add_argument("--transport", type=transport, default="default",
                        help="default (tcp, and shm on one host), tcp, shm, rdma, fabric:PROVIDER")
    parser.add_argument("--security", choices=("off", "tls"), default="off",
                        help="tls: all engines have certificates, which are exchanged each second")
    parser.add_argument("--seed", type=int, help="default: a new one, which is printed")
    parser.add_argument("--directory", default="any", choices=["any", *DIRECTORIES],
                        help="any: chosen by the seed")
    parser.add_argument("--late-ms", type=int, default=250,
                        help="how late a task may end: 250; 50 holds on a quiet machine")
    parser.add_argument("--cancel-ms", type=int, default=500,
                        help="how long a cancelled task may take to end")
    parser.add_argument("--recover-ms", type=int, default=15_000,
                        help="how long a path may take to work after the last fault was healed")
    parser.add_argument("--start-ms", type=int, default=20_000,
                        help="how long a process may take until it is ready")
    parser.add_argument("--targets", type=int, default=3)
    parser.add_argument("--initiators", type=int, default=2)
    parser.add_argument("--threads", type=int, default=3, help="of each initiator")
    parser.add_argument("--plant", choices=PLANTS, default="",
                        help="make a fault on purpose: the soak must fail")
    parser.add_argument("--log-folder", help="where each process's output and the events are kept")
    parser.add_argument("--worker", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--te", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--check-arguments", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not options.seconds > 0:
        parser.error("give a number of seconds above 0")
    if options.check_arguments:
        sys.exit(0)
    if options.directory not in ("any", *Directory.available()):
        parser.error(f"the program for the directory {options.directory} is missing here")
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1_000_000)
    if options.log_folder is None:
        options.log_folder = tempfile.mkdtemp(prefix=f"te_soak_{options.seed}_")
    options.worker, options.te = map(os.path.abspath, (options.worker, options.te))
    options.log_folder = os.path.abspath(options.log_folder)
    os.makedirs(options.log_folder, exist_ok=True)
    for old in glob.glob(os.path.join(options.log_folder, "*.log")):
        os.remove(old)
    return options


def why_not(options):
    """Why the soak cannot run here, or None."""
    missing = [tool for tool in ("ip", "nft", "tc", "nsenter") if shutil.which(tool) is None]
    if missing:
        return f"it needs {' and '.join(missing)}"
    if os.geteuid() != 0:
        return "it needs root, for namespaces of its own"
    if options.transport == "rdma" and not glob.glob("/sys/class/infiniband/*"):
        return "there is no RDMA device"
    return None


def call(function, *arguments):
    if function(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def enter(options, folder):
    """In the child, the first process of its namespace: all others end with it."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    private = ["mount", "--make-rprivate", "/"]
    for command in (private, ["mount", "-t", "proc", "proc", "/proc"],
                    ["mount", "-t", "tmpfs", "none", folder]):
        subprocess.run(command, check=True)
    if options.transport != "rdma":
        subprocess.run("mkdir -p /run/netns && mount -t tmpfs none /run/netns", shell=True,
                       check=True)


def again(options, shape):
    words = ["./dev soak", f"{options.seconds:g}", "--transport", options.transport,
             "--directory", shape.directory, "--seed", str(options.seed)]
    for name, usual in (("security", "off"), ("targets", 3), ("initiators", 2), ("threads", 3),
                        ("late_ms", 250), ("cancel_ms", 500), ("recover_ms", 15_000),
                        ("start_ms", 20_000), ("plant", "")):
        if getattr(options, name) != usual:
            words += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    return " ".join(words)


def summarize(soak, options, shape, out):
    out(soak.progress())
    out(f"{soak.total('writes')} WRITEs and {soak.total('reads')} READs completed and verified, "
        f"{soak.total('peeks')} looks at memory from outside; {soak.total('cancelled')} cancelled, "
        f"{soak.total('refused')} refused; a task ended {soak.worst_ms:.0f} ms after its deadline "
        "at worst")
    if not soak.violations:
        out(f"No violations. Seed {options.seed}")
        return 0
    first = soak.violations[0][0]
    out("")
    out("What happened before the first violation and with it:")
    around = [event for event in sorted(soak.events) if first - 8 <= event[0] <= first + 0.5]
    for seconds, text in around[-40:]:
        out(f"{seconds:8.3f} {text}")
    out("")
    kinds = {}
    for _, kind, _ in soak.violations:
        kinds[kind] = kinds.get(kind, 0) + 1
    for kind, count in sorted(kinds.items()):
        out(f"{count:6} {kind}: {soak_checks.VIOLATIONS.get(kind, '')}")
    out(f"FAILED: {len(soak.violations)} violations. Seed {options.seed}. Everything that "
        f"happened: {options.log_folder}/events.log; what the processes said lies beside it. "
        "Again:")
    out(f"  {again(options, shape)}")
    return 1


async def main_inside(options, shape, folder):
    def out(text):
        print(text, flush=True)

    out(f"Seed {options.seed}: {options.seconds:g} s over {options.transport}"
        f"{' with TLS' if options.security == 'tls' else ''}, names from "
        f"{shape.directory}, {shape.targets} targets, {shape.initiators} initiators of "
        f"{shape.threads} threads")
    soak = Soak(options, shape, folder, out)
    task = asyncio.ensure_future(soak.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        out("Interrupted.")
        return max(1, summarize(soak, options, shape, out))
    return summarize(soak, options, shape, out)


def supervise(options, shape):
    """Runs the soak in namespaces that end with it, whatever way it ends."""
    folder = tempfile.mkdtemp(prefix="te_soak_memory_")
    try:
        flags = CLONE_NEWNS | CLONE_NEWPID
        if options.transport != "rdma":
            flags |= CLONE_NEWNET
        try:
            call(LIBC.unshare, flags)
        except OSError as failure:
            print(f"SKIPPED: no namespaces here: {failure}")
            return SKIPPED
        child = os.fork()
        if child == 0:
            status = 1
            try:
                enter(options, folder)
                status = asyncio.run(main_inside(options, shape, folder))
            except BaseException as failure:  # pylint: disable=broad-except
                print(f"soak: {type(failure).__name__}: {failure}", file=sys.stderr)
            sys.stdout.flush()
            os._exit(status)  # and everything inside with it
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: os.kill(child, signal.SIGTERM))
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1
    finally:
        LIBC.umount2(folder.encode(), MNT_DETACH)
        os.rmdir(folder)


def main():
    options = parse(sys.argv[1:])
    reason = why_not(options)
    if reason is not None:
        print(f"SKIPPED: {reason}")
        return SKIPPED
    directory = choose_directory(options.seed, options.directory, Directory.available())
    shape = Shape(options.targets, options.initiators, options.threads,
                  network=options.transport not in ("shm", "rdma"), directory=directory,
                  pinned=options.transport == "rdma")
    return supervise(options, shape)


if __name__ == "__main__":
    sys.exit(main())
