#!/usr/bin/env python3
"""Runs a command on a machine with RDMA devices: a virtual one, with Soft-RoCE.

    rdma_vm.py [--nics N] [--memory MIB] [--timeout S] [--write DIR]... [--] COMMAND [ARGUMENT...]

Boots Debian's kernel in qemu, on a throw-away view of this machine's own file system: what was
built here runs there unchanged, as root, in the current directory, with the caller's environment.
There are devices rxe0 to rxeN-1 on eth0 to ethN-1 (10.77.0.1 and on), joined by a bridge, so that
two devices have a wire between them that can be cut (ip link set eth1 down) or made poor (tc);
and two memory nodes with a CPU each.

What the command prints comes out as it is printed; what it writes is lost, except below the
directories given with --write. Exit status: the command's; 124, it ran past --timeout, which
counts the boot; 125, the machine died or could not be set up; 77, this host cannot run one: the
line "skipped: ..." says why.

Needs qemu-system-x86, busybox-static, iproute2 and, once, apt-get to fetch the kernel (70 MB, kept
with what is made of it in ~/.cache/transfer_engine; RDMA_VM_KERNEL may name its .deb instead).
"""

import argparse
import ctypes
import hashlib
import lzma
import os
import platform
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

SKIPPED, TIMED_OUT, BROKEN = 77, 124, 125
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "rdma": "iproute2",
    "dpkg-deb": "dpkg",
}
# What the kernel needs as modules; what these need is found.
MODULES = (
    "virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay",  # to come up
    "veth", "bridge", "sch_netem",  # the network, and a poor one
    "crc32_generic", "ib_uverbs", "rdma_ucm", "rdma_rxe",  # RDMA
)
CACHE = os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "transfer_engine", "rdma_vm"
)
INIT = os.path.join(os.path.dirname(os.path.realpath(__file__)), "rdma_vm_init.sh")
KERNEL_LINE = (
    "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on no_timer_check tsc=reliable"
)
KVM_PROBE_S = 15
# A boot takes five seconds, and now and then, on a busy host, does not end.
BOOT_S, BOOTS = 40, 3
UP = "rdma_vm: up"  # what the machine says on its console then
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


class NotUp(Exception):
    """The machine did not come up in time."""


class Problem(Exception):
    """Why there is no machine; `status` is what to exit with."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


def parse_arguments():
    def positive(text):
        number = int(text)
        if number < 1:
            raise argparse.ArgumentTypeError("give a number from 1")
        return number

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nics", type=positive, default=2)
    parser.add_argument("--memory", type=positive, default=1024, metavar="MIB")
    parser.add_argument("--timeout", type=positive, default=300, metavar="S")
    parser.add_argument("--write", action="append", default=[], metavar="DIR")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if arguments.command[:1] == ["--"]:
        del arguments.command[0]
    if not arguments.command:
        parser.error("give a command")
    for directory in arguments.write:
        if not os.path.isdir(directory):
            parser.error(f"--write {directory}: no such directory")
    return arguments


def find_tools():
    if platform.machine() != "x86_64":
        raise Problem(SKIPPED, f"an x86-64 host is needed, this is {platform.machine()}")
    for tool, package in TOOLS.items():
        if shutil.which(tool, path=PATH) is None:
            raise Problem(SKIPPED, f"{tool} is missing: apt-get install {package}")


def kernel_package():
    """The .deb of Debian's kernel; the -cloud one has neither 9p nor Soft-RoCE."""
    given = os.environ.get("RDMA_VM_KERNEL")
    if given:
        if not os.path.isfile(given):
            raise Problem(BROKEN, f"RDMA_VM_KERNEL: there is no file {given}")
        return given
    kept = [name for name in os.listdir(CACHE) if name.endswith(".deb")]
    if kept:
        return os.path.join(CACHE, sorted(kept)[-1])
    listed = subprocess.run(
        ["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True, check=False
    )
    found = re.search(r"Depends: (linux-image-\d\S*-amd64)", listed.stdout)
    if not found:
        raise Problem(SKIPPED, "apt knows no kernel package linux-image-amd64: run apt-get update")
    print(f"rdma_vm: fetching {found[1]}, once, about 70 MB", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        fetched = subprocess.run(
            ["apt-get", "-qq", "download", found[1]],
            cwd=folder, capture_output=True, text=True, check=False,
        )
        names = os.listdir(folder)
        if fetched.returncode != 0 or len(names) != 1:
            raise Problem(SKIPPED, f"{found[1]} cannot be fetched: {fetched.stderr.strip()}")
        os.replace(os.path.join(folder, names[0]), os.path.join(CACHE, names[0]))
        return os.path.join(CACHE, names[0])


def package_files(deb):
    """Path and a function that gives the bytes, of every file in the package."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as unpacked:
        with tarfile.open(fileobj=unpacked.stdout, mode="r|") as archive:
            for member in archive:
                if member.isfile():
                    yield member.name, lambda m=member: archive.extractfile(m).read()
        # What pads the archive's end.
        while unpacked.stdout.read(1 << 16):
            pass
    if unpacked.returncode != 0:
        raise Problem(BROKEN, f"{deb} cannot be unpacked")


def module_name(path):
    found = re.search(r"/([^/]+)\.ko(\.xz)?$", path)
    return found and found[1].replace("-", "_")


def module_bytes(path, data):
    return lzma.decompress(data) if path.endswith(".xz") else data


def plain_kernel(image):
    """Unpacked here that takes a second, in the guest many."""
    begin = image.find(b"\xfd7zXZ\0")
    if begin >= 0:
        try:
            plain = lzma.LZMADecompressor().decompress(image[begin:])
            if plain.startswith(b"\x7fELF"):
                return plain
        except lzma.LZMAError:
            pass
    return image


def read_package(deb):
    """The kernel, and its modules as (name, bytes), each after those that it needs."""
    needs, kernel = {}, None
    for path, read in package_files(deb):
        name = module_name(path)
        if name:
            found = re.search(rb"(?:^|\0)depends=([^\0]*)\0", module_bytes(path, read()))
            needs[name] = [n.replace("-", "_") for n in found[1].decode().split(",") if n]
        elif path.startswith("./boot/vmlinuz-"):
            kernel = plain_kernel(read())
    order = []

    def add(name):
        # One that is not there is built in; if not, whoever wants it will say so.
        if name in needs and name not in order:
            for other in needs[name]:
                add(other)
            order.append(name)

    for name in MODULES:
        add(name)
    wanted = {}
    for path, read in package_files(deb):
        if module_name(path) in order:
            wanted[module_name(path)] = module_bytes(path, read())
    if kernel is None or "rdma_rxe" not in wanted:
        raise Problem(BROKEN, f"{deb} has no kernel with the module rdma_rxe")
    return kernel, [(name, wanted[name]) for name in order]


def archive_of(files):
    """A cpio archive, as a kernel's first file system comes: (path, mode, bytes) each."""
    parts = []
    for number, (path, mode, data) in enumerate(files + [("TRAILER!!!", 0, b"")], 1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path) + 1, 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + path.encode() + b"\0"
        for part in (head, data):
            parts.append(part + b"\0" * (-len(part) % 4))
    return b"".join(parts)


def plain_file(path, data, executable=False):
    return path, stat.S_IFREG | (0o755 if executable else 0o644), data


def folder(path):
    return path, stat.S_IFDIR | 0o755, b""


def boot_files():
    """The folder with `kernel` and `modules.cpio`: made once, by whoever comes first."""
    os.makedirs(CACHE, exist_ok=True)
    deb = kernel_package()
    with open(shutil.which("busybox", path=PATH), "rb") as file:
        busybox = file.read()
    key = hashlib.sha256(busybox)
    for text in (os.path.basename(deb), str(os.path.getsize(deb)), " ".join(MODULES)):
        key.update(text.encode() + b"\0")
    ready = os.path.join(CACHE, "boot-" + key.hexdigest()[:16])
    if os.path.isdir(ready):
        return ready
    kernel, modules = read_package(deb)
    files = [folder("bin"), folder("modules"), plain_file("bin/busybox", busybox, True)]
    files += [plain_file(f"modules/{name}.ko", data) for name, data in modules]
    order = "".join(f"{name}\n" for name, _ in modules)
    files.append(plain_file("modules/order", order.encode()))
    made = tempfile.mkdtemp(dir=CACHE)
    try:
        for name, data in (("kernel", kernel), ("modules.cpio", archive_of(files))):
            with open(os.path.join(made, name), "wb") as file:
                file.write(data)
        os.rename(made, ready)
    except OSError:
        shutil.rmtree(made, ignore_errors=True)
        if not os.path.isdir(ready):
            raise
    return ready


def write_initrd(boot, path, files):
    with open(path, "wb") as out:
        with open(os.path.join(boot, "modules.cpio"), "rb") as modules:
            shutil.copyfileobj(modules, out)
        with open(INIT, "rb") as init:
            out.write(archive_of([plain_file("init", init.read(), True)] + files))


def end_with_parent():
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def machine(boot, initrd, kvm, settings=""):
    # TCG's newest CPU has a bit of address too many for this kernel.
    processor = ["kvm", "-cpu", "host"] if kvm else ["tcg,thread=multi", "-cpu", "max,la57=off"]
    return [
        shutil.which("qemu-system-x86_64", path=PATH),
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "pc",
        "-accel", *processor, "-kernel", os.path.join(boot, "kernel"), "-initrd", initrd,
        "-append", f"{KERNEL_LINE} {settings}".strip(),
    ]


def kvm_runs(boot):
    """A /dev/kvm that opens may still not run a stock kernel: tried once per boot of this host."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        answer = os.path.join(boot, "kvm-" + file.read().strip())
    if not os.path.exists(answer):
        with tempfile.TemporaryDirectory(prefix="rdma_vm.") as job:
            initrd = os.path.join(job, "initrd")
            write_initrd(boot, initrd, [])
            line = machine(boot, initrd, True, "te_probe=1") + ["-m", "512", "-serial", "stdio"]
            try:
                tried = subprocess.run(
                    line, stdin=subprocess.DEVNULL, capture_output=True, check=False,
                    timeout=KVM_PROBE_S, preexec_fn=end_with_parent,
                )
                answered = b"rdma_vm: alive" in tried.stdout
            except subprocess.TimeoutExpired:
                answered = False
        with open(answer + f".{os.getpid()}", "w", encoding="ascii") as file:
            file.write("yes" if answered else "no")
        os.replace(file.name, answer)
    with open(answer, encoding="ascii") as file:
        return file.read() == "yes"


def share(tag, directory, read_only):
    path = directory.replace(",", ",,")
    mode = ",readonly=on" if read_only else ""
    return [
        "-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap{mode}",
        "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}",
    ]


def command_script(arguments):
    lines = [
        f"export {name}={shlex.quote(value)}"
        for name, value in os.environ.items() if re.fullmatch(r"[A-Za-z_]\w*", name)
    ]
    lines += [
        f"export RDMA_VM_NICS={arguments.nics}",
        f"cd {shlex.quote(os.getcwd())} || exit 125",
        "exec " + shlex.join(arguments.command),
    ]
    return plain_file("command.sh", ("\n".join(lines) + "\n").encode())


def machine_line(arguments, boot, job):
    shares = [os.path.realpath(directory) for directory in arguments.write]
    listed = "".join(f"write{i} {path}\n" for i, path in enumerate(shares))
    initrd = os.path.join(job, "initrd")
    write_initrd(boot, initrd,
                 [command_script(arguments), plain_file("shares", listed.encode())])
    half = arguments.memory // 2
    line = machine(boot, initrd, kvm_runs(boot), f"te_nics={arguments.nics}")
    line += ["-m", str(2 * half), "-smp", "2,sockets=2"]
    for node in range(2):
        line += ["-object", f"memory-backend-ram,id=memory{node},size={half}M",
                 "-numa", f"node,nodeid={node},memdev=memory{node},cpus={node}"]
    line += ["-numa", "dist,src=0,dst=1,val=20"]
    line += ["-serial", f"file:{job}/console", "-device", "virtio-serial-pci"]
    # Not qemu's "stdio": that one is closed, and drops what comes, when stdin is at its end.
    for port, path in (("output", "/dev/fd/1"), ("status", f"{job}/status")):
        line += ["-chardev", f"file,id={port},path={path},append=on",
                 "-device", f"virtserialport,chardev={port},name={port}"]
    line += share("root", "/", True)
    for i, path in enumerate(shares):
        line += share(f"write{i}", path, False)
    return line


def pass_on(source):
    while data := source.read(1 << 16):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def tail(path, lines=20):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-lines:])
    except OSError:
        return ""


def wait_for(guest, console, until):
    """Whether the machine ended by then; NotUp where it has not even come up after BOOT_S."""
    boot_until = time.monotonic() + BOOT_S
    up = False
    while True:
        now = time.monotonic()
        try:
            guest.wait(min(until - now, 3600 if up else 0.5))
            return True
        except subprocess.TimeoutExpired:
            pass
        up = up or UP in tail(console)
        if time.monotonic() >= until:
            return False
        if not up and time.monotonic() >= boot_until:
            raise NotUp


def run_machine(arguments, boot, until):
    with tempfile.TemporaryDirectory(prefix="rdma_vm.") as job:
        complaints, console = os.path.join(job, "qemu"), os.path.join(job, "console")
        with open(complaints, "wb") as errors, subprocess.Popen(
            machine_line(arguments, boot, job), bufsize=0, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=errors, preexec_fn=end_with_parent,
        ) as guest:
            printer = threading.Thread(target=pass_on, args=(guest.stdout,), daemon=True)
            printer.start()
            try:
                ended = wait_for(guest, console, until)
            finally:
                guest.kill()
                printer.join()
        if not ended:
            raise Problem(TIMED_OUT, f"ended after {arguments.timeout} s\n{tail(console)}")
        status = tail(os.path.join(job, "status")).strip()
        if not status.isdigit():
            raise Problem(BROKEN, "the machine died, or did not come up:\n"
                          + tail(complaints) + tail(console))
        return int(status)


def run(arguments):
    find_tools()
    boot = boot_files()
    until = time.monotonic() + arguments.timeout
    for _ in range(BOOTS):
        try:
            return run_machine(arguments, boot, until)
        except NotUp:
            print(f"rdma_vm: the machine did not come up within {BOOT_S} s",
                  file=sys.stderr, flush=True)
    raise Problem(BROKEN, f"the machine did not come up, {BOOTS} times")


def main():
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        return run(arguments)
    except Problem as problem:
        if problem.status == SKIPPED:
            print(f"skipped: {problem}", flush=True)
        else:
            print(f"rdma_vm: {problem}", file=sys.stderr, flush=True)
        return problem.status
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
