"""Hosts as network namespaces on one bridge, and what can go wrong between them.

Everything lies in a private mount and network namespace (soak.py), so nothing is left behind.
"""
import asyncio

BRIDGE = "soak"
HERE = "127.0.0.1"


async def run(*command, stdin=None):
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT)
    output, _ = await process.communicate(stdin.encode() if stdin else None)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {output.decode().strip()}")


def inside(host):
    """The beginning of a command that runs on a host; None: on no host of its own."""
    return () if host is None else ("nsenter", f"--net=/run/netns/{host}")


class Network:
    def __init__(self):
        self.addresses = {}
        self.tables = 0

    def address(self, host):
        return HERE if host is None else self.addresses[host]

    async def build(self, hosts):
        await run("ip", "link", "set", "lo", "up")
        if not hosts:
            return
        await run("ip", "link", "add", BRIDGE, "type", "bridge")
        await run("ip", "link", "set", BRIDGE, "up")
        for number, host in enumerate(hosts, 1):
            self.addresses[host] = f"10.213.9.{number}"
            await run("ip", "netns", "add", host)
            await run("ip", "link", "add", f"p-{host}", "type", "veth", "peer", "name", "eth0",
                      "netns", host)
            await run("ip", "link", "set", f"p-{host}", "master", BRIDGE, "up")
            for command in (("link", "set", "lo", "up"), ("link", "set", "eth0", "up"),
                            ("addr", "add", f"{self.addresses[host]}/24", "dev", "eth0")):
                await run(*inside(host), "ip", *command)

    async def disturb(self, kind, host, detail):
        """Returns what heals it."""
        self.tables += 1
        table = f"fault{self.tables}"
        if kind == "slow":
            rate = detail.replace(" ", "")
            shaped = ("root", "tbf", "rate", rate, "burst", "64kb", "latency", "100ms")
            await run(*inside(host), "tc", "qdisc", "add", "dev", "eth0", *shaped)
            await run("tc", "qdisc", "add", "dev", f"p-{host}", *shaped)

            async def heal():
                await run(*inside(host), "tc", "qdisc", "del", "dev", "eth0", "root")
                await run("tc", "qdisc", "del", "dev", f"p-{host}", "root")
            return heal
        if kind == "reset":
            where, family = inside(host), "inet"
            rules = ("chain c { type filter hook input priority 0; "
                     "meta l4proto tcp reject with tcp reset; }\n")
        else:
            where, family = (), "bridge"
            which = "" if kind == "partition" else f"numgen random mod 100 < {detail.split()[0]} "
            directions = {"in": ("oifname",), "out": ("iifname",)}.get(detail,
                                                                     ("iifname", "oifname"))
            rules = "".join(f'{direction} "p-{host}" {which}drop; ' for direction in directions)
            rules = f"chain c {{ type filter hook forward priority 0; {rules} }}\n"
        await run(*where, "nft", "-f", "-", stdin=f"table {family} {table} {{ {rules} }}\n")

        async def heal():
            await run(*where, "nft", "delete", "table", family, table)
        return heal
