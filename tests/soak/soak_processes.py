"""The processes of a soak: workers that are told what to do and report, and directory servers."""
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import time

from soak_network import inside

ANSWER_S = 30.0  # for a command that takes no time of its own


class Keys:
    """Certificates of all engines, which may be exchanged at any time."""

    def __init__(self, te, folder):
        self.te, self.folder, self.count = te, folder, 0
        self.current = os.path.join(folder, "current")
        self.make("authority")
        self.exchange()

    def make(self, *words):
        subprocess.run([self.te, "keys", *words, "--folder", self.folder], check=True,
                       stdout=subprocess.DEVNULL)

    def exchange(self):
        """Both files at once, by one rename."""
        self.count += 1
        self.make("member", "engine", "--days", "1")
        version, link = (os.path.join(self.folder, f"{name}{self.count}") for name in "vl")
        os.mkdir(version)
        for name in ("engine.pem", "engine.key"):
            os.rename(os.path.join(self.folder, name), os.path.join(version, name))
        os.symlink(version, link)
        os.rename(link, self.current)

    def settings(self):
        return {"security": "tls", "tls_ca": os.path.join(self.folder, "authority.pem"),
                "tls_cert": os.path.join(self.current, "engine.pem"),
                "tls_key": os.path.join(self.current, "engine.key")}


class NoAnswer(Exception):
    """A worker did not do what it was told in time."""


class Gone(NoAnswer):
    """It died, or was not there."""


class Worker:
    """One te_soak_worker, and those that replace it after it died."""

    def __init__(self, name, host, arguments, log_folder, hear):
        self.name, self.host, self.arguments = name, host, arguments
        self.log_path = os.path.join(log_folder, f"{name}.log")
        self.hear = hear  # called with (worker, event) for what it reports
        self.process = None
        self.expected_end = False
        self.ready = None  # what it said when it was ready; None while it is not
        self.failure = ""
        self.answers = {}
        self.samples = []
        self.gone = asyncio.Event()
        self.gone.set()

    @property
    def running(self):
        return not self.gone.is_set()

    @property
    def pid(self):
        return self.process.pid

    async def start(self, limit_s):
        """True once it is ready; `failure` says why not."""
        self.ready, self.failure, self.expected_end = None, "", False
        self.samples, self.answers = [], {}
        self.gone.clear()
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith("TRANSFER_ENGINE_")}
        with open(self.log_path, "a", encoding="utf-8") as log:
            self.process = await asyncio.create_subprocess_exec(
                *inside(self.host), *self.arguments, stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE, stderr=log, env=environment, limit=1 << 20,
                cwd=os.path.dirname(self.log_path))  # where a core would lie
        answer = self.answers.setdefault("ready", asyncio.get_running_loop().create_future())
        asyncio.ensure_future(self.read())
        try:
            self.ready = await asyncio.wait_for(asyncio.shield(answer), limit_s)
        except (asyncio.TimeoutError, NoAnswer):
            self.failure = self.failure or "not ready in time"
        return self.ready is not None

    async def read(self):
        process = self.process
        while line := await process.stdout.readline():
            try:
                event = json.loads(line)
            except ValueError:
                continue  # cut off by its death
            if event["event"] == "ready":
                self.settle("ready", event)
            elif event["event"] == "done":
                self.settle(event["command"].split()[0], event)
            elif event["event"] == "failed":
                self.failure = event["error"]
            else:
                self.hear(self, event)
        await process.wait()
        self.gone.set()
        for answer in list(self.answers.values()):
            if not answer.done():
                answer.set_exception(Gone(f"{self.name} is gone"))
                answer.exception()  # nobody may be waiting
        self.hear(self, {"event": "gone", "at": time.monotonic(), "status": process.returncode})

    def settle(self, name, event):
        answer = self.answers.get(name)
        if answer is not None and not answer.done():
            answer.set_result(event)

    async def ask(self, command, limit_s=ANSWER_S):
        name = command.split()[0]
        answer = self.answers[name] = asyncio.get_running_loop().create_future()
        if not self.running:
            raise Gone(f"{self.name} is gone")
        try:
            self.process.stdin.write(f"{command}\n".encode())
            await self.process.stdin.drain()
            return await asyncio.wait_for(asyncio.shield(answer), limit_s)
        except asyncio.TimeoutError:
            raise NoAnswer(f"{self.name} did not {command} within {limit_s:.0f} s") from None
        except (ConnectionError, OSError):
            raise Gone(f"{self.name} is gone") from None

    def signal(self, number):
        if self.running:
            self.process.send_signal(number)

    async def kill(self):
        self.expected_end = True
        self.signal(signal.SIGKILL)
        await self.gone.wait()

    def sample(self):
        """(bytes of its own memory, descriptors); None while it is gone."""
        try:
            with open(f"/proc/{self.pid}/status", encoding="utf-8") as status:
                rows = dict(line.split(":", 1) for line in status)
            return (int(rows["RssAnon"].split()[0]) << 10,
                    len(os.listdir(f"/proc/{self.pid}/fd")))
        except (OSError, KeyError):
            return None

    def log_tail(self, lines=6):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                return log.read().splitlines()[-lines:]
        except OSError:
            return []


class Directory:
    """A server that keeps names: etcd, redis, te metadata-server; or none at all."""
    PORTS = {"etcd": 2379, "redis": 6379, "http": 8080}

    def __init__(self, kind, host, address, folder, te, log_folder):
        self.kind, self.host, self.address, self.te = kind, host, address, te
        self.data = os.path.join(folder, "directory")
        self.log_path = os.path.join(log_folder, "directory.log")
        self.process = None
        os.makedirs(self.data, exist_ok=True)

    @staticmethod
    def available():
        programs = {"etcd": "etcd", "redis": "redis-server"}
        return ["none", "http"] + [kind for kind, program in programs.items()
                                   if shutil.which(program)]

    @property
    def url(self):
        at = f"{self.address}:{self.PORTS.get(self.kind, 0)}"
        return {"none": "P2PHANDSHAKE", "etcd": f"etcd://{at}", "redis": f"redis://{at}",
                "http": f"http://{at}/metadata"}[self.kind]

    def command(self):
        port = self.PORTS[self.kind]
        client, peer = f"http://{self.address}:{port}", f"http://{self.address}:2380"
        return {
            "etcd": ["etcd", "--name", "te", "--data-dir", f"{self.data}/etcd",
                     "--listen-client-urls", client, "--advertise-client-urls", client,
                     "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                     "--initial-cluster", f"te={peer}",
                     "--heartbeat-interval", "20", "--election-timeout", "200"],
            "redis": ["redis-server", "--bind", self.address, "--port", str(port),
                      "--dir", self.data, "--save", "", "--appendonly", "no",
                      "--protected-mode", "no"],
            "http": [self.te, "metadata-server", "--host", self.address, "--port", str(port)],
        }[self.kind]

    async def start(self):
        if self.kind == "none":
            return
        with open(self.log_path, "a", encoding="utf-8") as log:
            self.process = await asyncio.create_subprocess_exec(
                *inside(self.host), *self.command(), stdin=asyncio.subprocess.DEVNULL, stdout=log,
                stderr=log)

    async def wait_until_ready(self, from_host):
        """By a connection from a host of the soak."""
        if self.kind == "none":
            return
        script = ("import socket,sys; "
                  f"socket.create_connection(('{self.address}', {self.PORTS[self.kind]}), 1)")
        for _ in range(200):
            probe = await asyncio.create_subprocess_exec(
                *inside(from_host), "python3", "-c", script, stderr=asyncio.subprocess.DEVNULL)
            if await probe.wait() == 0:
                return
            await asyncio.sleep(0.1)
        raise RuntimeError(f"{self.kind} did not start: see {self.log_path}")

    async def kill(self):
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
