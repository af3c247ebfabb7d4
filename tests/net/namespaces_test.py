"""Verified transfers between two network namespaces, over a link that loses or delays packets.

namespaces_test.py --peer te_test_peer --mover te_test_mover CASE...

A target runs in one namespace and an initiator in the other; every byte is compared. Everything
made here is unique to this run and removed at its end, also when it is interrupted. Exit status 77:
skipped, because it takes root, ip, nft and tc.
"""
import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

SKIPPED = 77
GIGABYTES = int(os.environ.get("TEST_TRANSFER_GB", "20"))
LIMIT_S = 60 + 4 * GIGABYTES  # for one mover
RUN = f"te{os.getpid() % 1_000_000}"  # interface names have at most 15 letters
NAMESPACES = (f"{RUN}a", f"{RUN}b")
ADDRESSES = {4: ("10.213.7.1", "10.213.7.2"), 6: ("fd13:7::1", "fd13:7::2")}
MIB = 1 << 20

LOSS = """
table inet te_test {
  chain incoming {
    type filter hook input priority 0; policy accept;
    meta l4proto tcp %s drop
  }
}
"""


class Skip(Exception):
    """The machine lacks something that the test needs."""


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout.strip()}")
    return done.stdout


def inside(namespace, *command):
    return ("ip", "netns", "exec", namespace, *command)


def environment(**settings):
    """With these settings of the engine, and no others."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("TE_", "TRANSFER_ENGINE_"))}
    return kept | settings


@contextlib.contextmanager
def network(loss_percent=0, rate_mbit=0):
    """The two namespaces, joined; packets are lost on their way in, at both ends."""
    try:
        try:
            for namespace in NAMESPACES:
                run("ip", "netns", "add", namespace)
            run("ip", "link", "add", f"{RUN}a0", "netns", NAMESPACES[0], "type", "veth",
                "peer", "name", f"{RUN}b0", "netns", NAMESPACES[1])
        except RuntimeError as failure:
            raise Skip(str(failure)) from failure
        for i, namespace in enumerate(NAMESPACES):
            device = f"{namespace}0"
            run(*inside(namespace, "ip", "link", "set", "lo", "up"))
            run(*inside(namespace, "ip", "link", "set", device, "up"))
            run(*inside(namespace, "ip", "addr", "add", f"{ADDRESSES[4][i]}/24", "dev", device))
            run(*inside(namespace, "ip", "-6", "addr", "add", f"{ADDRESSES[6][i]}/64", "dev",
                        device, "nodad"))
            if rate_mbit:
                run(*inside(namespace, "tc", "qdisc", "add", "dev", device, "root", "tbf",
                            "rate", f"{rate_mbit}mbit", "burst", "256kb", "latency", "50ms"))
            if loss_percent:
                set_loss(namespace, loss_percent)
        yield
    finally:
        # The devices go with them; processes inside are waited for before.
        for namespace in NAMESPACES:
            subprocess.run(("ip", "netns", "del", namespace), stderr=subprocess.DEVNULL,
                           check=False)


def set_loss(namespace, percent):
    with contextlib.suppress(RuntimeError):
        run(*inside(namespace, "nft", "delete", "table", "inet", "te_test"))
    if percent:
        which = f"numgen random mod 100 < {percent}" if percent < 100 else ""
        run(*inside(namespace, "nft", "-f", "-"), input=LOSS % which)


def set_rate(namespace, mbit):
    """What the namespace sends waits for up to half a second and more in a queue of that rate."""
    shaped = ("root", "tbf", "rate", f"{mbit}mbit", "burst", "64kb", "latency", "500ms")
    change, how = ("add", shaped) if mbit else ("del", ("root",))
    run(*inside(namespace, "tc", "qdisc", change, "dev", f"{namespace}0", *how))


def sent_again(namespace):
    """The segments that TCP sent again in the namespace: proof that the loss took place."""
    rows = [row.split() for row in run(*inside(namespace, "cat", "/proc/net/snmp")).splitlines()
            if row.startswith("Tcp:")]
    return int(rows[1][rows[0].index("RetransSegs")])


@contextlib.contextmanager
def process(*command, **options):
    options.setdefault("env", environment())
    running = subprocess.Popen(command, text=True, **options)
    try:
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.wait(LIMIT_S)
        for stream in (running.stdin, running.stdout):
            if stream is not None:
                stream.close()


def move(programs, family, volume, threads=4, size=32 * MIB, **settings):
    """Runs a target and a mover; returns what the mover says."""
    host, own = ADDRESSES[family]
    with process(*inside(NAMESPACES[0], programs.peer, "--name", host, "--host", host,
                         "--size", str(size)),
                 stdin=subprocess.PIPE, stdout=subprocess.PIPE) as target:
        ready = target.stdout.readline().split()
        if len(ready) != 4 or ready[0] != "ready":
            raise AssertionError(f"the target did not come up: {ready}")
        brackets = f"[{host}]:" if family == 6 else f"{host}:"
        if not ready[1].startswith(brackets):
            raise AssertionError(f"the target advertises {ready[1]}, not {host}")
        said = run(*inside(NAMESPACES[1], programs.mover, "--segment", ready[1], "--host", own,
                           "--size", str(size), "--volume", str(volume),
                           "--threads", str(threads)),
                   env=environment(**settings), timeout=LIMIT_S)
        target.stdin.close()
        if target.wait(LIMIT_S) != 0:
            raise AssertionError(f"the target ended with {target.returncode}")
    print(f"IPv{family}: {said.strip()}", flush=True)
    return said


def case_clean(programs):
    """IPv4 and IPv6 without trouble."""
    with network():
        for family in (4, 6):
            move(programs, family, 512 * MIB)


def lossy(programs, family):
    with network(loss_percent=1):
        move(programs, family, 256 * MIB)
        for namespace in NAMESPACES:
            count = sent_again(namespace)
            print(f"{namespace}: {count} segments sent again")
            if count == 0:
                raise AssertionError("nothing was lost, so nothing was tested")


def case_lossy(programs):
    """1 % of the packets lost at both ends, IPv4."""
    lossy(programs, 4)


def case_lossyv6(programs):
    """1 % of the packets lost at both ends, IPv6."""
    lossy(programs, 6)


def case_ratelimited(programs):
    """400 Mbit/s, with and without loss."""
    with network(rate_mbit=400):
        begin = time.monotonic()
        move(programs, 4, 128 * MIB)
        # Each way carries half of it.
        if 64 * MIB * 8 / (time.monotonic() - begin) > 2 * 400e6:
            raise AssertionError("faster than the link, so the limit was not in force")
        for namespace in NAMESPACES:
            set_loss(namespace, 1)
        move(programs, 6, 64 * MIB)


def case_volume(programs):
    """10 Gbit/s and 1 % loss: 20 GB, or TEST_TRANSFER_GB, in requests of up to 64 MiB."""
    with network(rate_mbit=10_000, loss_percent=1):
        move(programs, 4, GIGABYTES * 10**9, threads=8, size=512 * MIB)


def interrupted(programs, **settings):
    over = threading.Event()

    def interrupt():
        while not over.wait(0.5):
            set_loss(NAMESPACES[0], 100)
            over.wait(0.4)
            set_loss(NAMESPACES[0], 0)

    with network(rate_mbit=400):
        worker = threading.Thread(target=interrupt)
        worker.start()
        try:
            # It may have to begin in an outage, and again in the next.
            move(programs, 4, 128 * MIB, TRANSFER_ENGINE_CONNECT_TIMEOUT_MS="60000", **settings)
        finally:
            over.set()
            worker.join()
        if sent_again(NAMESPACES[1]) + sent_again(NAMESPACES[0]) == 0:
            raise AssertionError("nothing was lost, so nothing was tested")


def case_interrupted(programs):
    """The link loses everything for a while, again and again, in the middle of transfers."""
    interrupted(programs)


def sends_without_copy(said):
    """How many, and how many of them the kernel copied, as a mover's engine told at its end."""
    found = re.search(r"tcp: (\d+) sends without a copy, of which the kernel copied (\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def case_withoutcopy(programs):
    """Sends without a copy: tried, and given up since the kernel copies what stays on the machine;
    kept up where that is wished, also while the link loses packets or everything."""
    def sends(mode, family, volume):
        settings = {"TRANSFER_ENGINE_TCP_ZERO_COPY": mode, "TRANSFER_ENGINE_LOG_LEVEL": "debug"}
        said = move(programs, family, volume, **settings)
        return sends_without_copy(said)

    with network():
        for family in (4, 6):
            if sends("off", family, 64 * MIB) != (0, 0):
                raise AssertionError("sent without a copy though that was off")
            tried, copied = sends("auto", family, 512 * MIB)
            always, _ = sends("on", family, 512 * MIB)
            if not 0 < copied == tried < always / 4:
                raise AssertionError(f"{tried} tried, {copied} copied, {always} where it is on")
    with network(rate_mbit=400, loss_percent=1):
        if sends("on", 4, 64 * MIB)[0] == 0 or sent_again(NAMESPACES[1]) == 0:
            raise AssertionError("nothing sent so, or nothing lost, so nothing was tested")
    interrupted(programs, TRANSFER_ENGINE_TCP_ZERO_COPY="on")


SECOND = "10.213.7.9"  # of the target's namespace, beside ADDRESSES
LINK_LOCAL = "fe80::77"


@contextlib.contextmanager
def hosts_file(namespace, *lines):
    """/etc/hosts of the namespace, and no name server."""
    folder = f"/etc/netns/{namespace}"
    os.makedirs(folder)
    try:
        for name, text in (("hosts", "\n".join(lines) + "\n"), ("resolv.conf", "")):
            with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
                file.write(text)
        yield
    finally:
        shutil.rmtree(folder)
        with contextlib.suppress(OSError):  # others have theirs there
            os.rmdir("/etc/netns")


def said_by_target(programs, host, setting=None, use=None):
    """Where a target advertises itself, or the error that it ends with; `use` is called with the
    former while it serves."""
    with process(*inside(NAMESPACES[0], "env", *([setting] if setting else []), programs.peer,
                         "--name", "a-segment", "--host", host),
                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as target:
        ready = target.stdout.readline().split()
        if not ready:
            return target.stderr.read()
        if use:
            use(ready[1], ready[3])
        return ready[1].rpartition(":")[0]


def case_addresses(programs):
    """A target with several addresses advertises the one that was asked for, or says why not."""
    device = f"{NAMESPACES[0]}0"

    def expect(said, *parts):
        if not all(part in said for part in parts):
            raise AssertionError(f"no {parts} in: {said}")

    def same(said, address):
        if said != address:
            raise AssertionError(f"advertised {said}, not {address}")

    def mover_in(namespace):
        def use(segment, address):
            run(*inside(namespace, programs.mover, "--segment", segment, "--at", address,
                        "--size", str(MIB), "--volume", str(4 * MIB)), env=environment())
        return use

    with network(), hosts_file(NAMESPACES[0], f"127.0.1.1 {os.uname().nodename}",
                               f"{SECOND} second", "10.99.0.1 elsewhere"):
        run(*inside(NAMESPACES[0], "ip", "addr", "add", f"{SECOND}/24", "dev", device))
        run(*inside(NAMESPACES[0], "ip", "-6", "addr", "add", f"{LINK_LOCAL}/64", "dev", device,
                    "nodad"))
        local, remote = mover_in(NAMESPACES[0]), mover_in(NAMESPACES[1])
        same(said_by_target(programs, "", use=remote), ADDRESSES[4][0])
        for host in (SECOND, "second"):
            same(said_by_target(programs, host, use=remote), SECOND)
        same(said_by_target(programs, ADDRESSES[6][0], use=remote), f"[{ADDRESSES[6][0]}]")
        zoned = f"{LINK_LOCAL}%{device}"
        same(said_by_target(programs, zoned, use=local), f"[{zoned}]")
        expect(said_by_target(programs, LINK_LOCAL), "link-local", zoned)
        expect(said_by_target(programs, "10.99.0.7"), "host '10.99.0.7'", SECOND)
        expect(said_by_target(programs, "elsewhere"), "10.99.0.1", SECOND)
        expect(said_by_target(programs, "no-such-name"), "cannot be resolved")
        bind = f"TRANSFER_ENGINE_BIND_ADDRESS={SECOND}"
        same(said_by_target(programs, "", bind, remote), SECOND)
        expect(said_by_target(programs, ADDRESSES[4][0], bind), "exclude each other")
        advertise = "TRANSFER_ENGINE_ADVERTISE_ADDRESS=10.99.0.1"
        same(said_by_target(programs, "elsewhere", advertise), "10.99.0.1")


CASES = {name[len("case_"):]: function for name, function in globals().items()
         if name.startswith("case_")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", required=True)
    parser.add_argument("--mover", required=True)
    parser.add_argument("cases", nargs="+")
    programs = parser.parse_args()
    missing = [tool for tool in ("ip", "nft", "tc") if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        print("SKIPPED: needs " + (" and ".join(missing) if missing else "root"))
        return SKIPPED
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))  # through the finally blocks
    try:
        for case in programs.cases:
            CASES[case.lower()](programs)
    except Skip as reason:
        print(f"SKIPPED: no network namespaces here: {reason}")
        return SKIPPED
    return 0


if __name__ == "__main__":
    sys.exit(main())
