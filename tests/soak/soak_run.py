"""One run: builds the hosts, starts the processes, injects the planned faults, and checks."""
import asyncio
import collections
import os
import signal
import time

import soak_checks
from soak_network import Network
from soak_plan import KINDS, storms
from soak_processes import Directory, Gone, Keys, NoAnswer, Worker
from soak_world import ALLOCATED, FRAGILE, World

PORT = 7400
PLANT_S = 60  # at most, for a planted fault to come up
SHOWN_MAX = 8  # violations of a kind, in full
COUNTED = ("writes", "reads", "bytes", "failed", "timeouts", "cancelled", "refused", "peeks")


class Soak:
    def __init__(self, options, shape, folder, out):
        self.options, self.shape, self.folder, self.out = options, shape, folder, out
        self.network = Network()
        self.world = World(folder, shape.targets)
        self.directory = None
        self.keys = None
        self.workers = {}
        self.lanes = collections.defaultdict(asyncio.Lock)  # by subject and lane of faults
        self.begin = time.monotonic()
        self.events = []  # (seconds, text)
        self.violations = []  # (seconds, kind, text)
        self.intervals = []
        self.unmet = []
        self.faults = 0
        self.active = {}
        self.counts = {}  # (worker, pid) -> the last "counts" event
        self.worst_ms = float("-inf")
        self.initiator_killed = float("-inf")
        self.replacing = set()
        self.over = False

    # What is told.

    def log(self, text, at=None):
        self.events.append(((at or time.monotonic()) - self.begin, text))

    def violation(self, kind, text, at=None):
        seconds = (at or time.monotonic()) - self.begin
        self.violations.append((seconds, kind, text))
        self.log(f"VIOLATION {kind}: {text}", at)
        if sum(kind == other for _, other, _ in self.violations) <= SHOWN_MAX:
            self.out(f"{seconds:7.2f} s  VIOLATION {kind}: {text}")

    def hear(self, worker, event):
        kind = event["event"]
        if kind == "violation":
            self.violation(event["kind"], event["text"], event["at"])
        elif kind == "counts":
            self.counts[worker.name, worker.pid] = event
            self.worst_ms = max(self.worst_ms, event["latest_ms"])
        elif kind == "unmet":
            self.unmet.append((worker.name, event))
        elif kind == "recovered":
            self.log(f"{worker.name}: path to t{event['target']} works, {event['ms']} ms after the "
                     "heal", event["at"])
        elif kind == "gone":
            self.heard_end(worker, event)

    def heard_end(self, worker, event):
        wrong = soak_checks.death(event["status"], worker.expected_end)
        self.log(f"{worker.name}: its process ended (status {event['status']})", event["at"])
        if worker.ready is None or wrong is None:
            return  # it did not start, which start_worker reports
        core = os.path.join(self.options.log_folder, "core")  # one for each: ulimit -c unlimited
        if os.path.exists(core):
            os.rename(core, f"{core}.{worker.name}.{worker.pid}")
        tail = "; ".join(worker.log_tail(3))
        self.violation("crash", f"{worker.name} {wrong}" + (f": {tail}" if tail else ""),
                       event["at"])
        if not self.over:
            asyncio.ensure_future(self.replace(worker))

    def total(self, name):
        return sum(event[name] for event in self.counts.values())

    def progress(self):
        active = ", ".join(str(fault) for fault in self.active.values())
        return (f"{time.monotonic() - self.begin:7.2f} s  {self.faults} faults, "
                f"{self.total('writes') + self.total('reads')} transfers verified "
                f"({self.total('bytes') >> 20} MiB), {self.total('timeouts')} timeouts, "
                f"{self.total('failed')} failed, latest {self.worst_ms:.0f} ms, "
                f"{len(self.violations)} violations" + (f"; now: {active}" if active else ""))

    # Processes.

    def host_of(self, name):
        if not self.shape.network:
            return None
        # By default a target and an initiator share a host, which makes their path shm.
        return "i0" if name == "t0" and self.options.transport == "default" else name

    def hosts(self):
        names = [f"t{i}" for i in range(self.shape.targets)]
        names += [f"i{i}" for i in range(self.shape.initiators)]
        hosts = sorted({self.host_of(name) for name in names} - {None})
        return hosts + ["dir"] if hosts else []

    def port_of(self, index):
        return PORT + index

    def segment(self, index):
        if self.shape.directory == "none":
            return f"{self.network.address(self.host_of(f't{index}'))}:{self.port_of(index)}"
        return f"target-{index}"

    def arguments(self, name):
        role = "target" if name[0] == "t" else "initiator"
        index = int(name[1:])
        address = self.network.address(self.host_of(name))
        own = address if self.shape.directory == "none" else (
            self.segment(index) if role == "target" else f"initiator-{index}")
        words = [self.options.worker, "--role", role, "--index", index, "--host", address,
                 "--targets", self.shape.targets, "--initiators", self.shape.initiators,
                 "--threads", self.shape.threads, "--seed", self.options.seed,
                 "--folder", self.folder, "--metadata", self.directory.url, "--name", own,
                 "--late-ms", self.options.late_ms, "--cancel-ms", self.options.cancel_ms,
                 "--config", "slice_bytes=262144", "--config", "directory_lease_s=3"]
        if self.keys:
            for setting, value in self.keys.settings().items():
                words += ["--config", f"{setting}={value}"]
        if role == "target":
            words += ["--port", self.port_of(index)]
        else:
            words += ["--segments",
                      ",".join(self.segment(i) for i in range(self.shape.targets))]
        if self.options.transport != "default":
            words += ["--transport", self.options.transport]
        if self.options.transport.startswith("fabric:"):
            words += ["--config", f"fabric_addresses={address}"]
        plant = self.options.plant
        last_target = name == f"t{self.shape.targets - 1}"  # which the soak itself never kills
        if plant in ("late", "ghost", "corrupt", "unregistered") or (
                plant in ("crash", "leak") and last_target):
            words += ["--plant", plant]
        return [str(word) for word in words]

    async def start_worker(self, worker, again=True):
        """False: it could not be started, which was told. `again`: for as long as it may take."""
        limit_s = self.options.start_ms / 1000
        until = time.monotonic() + (limit_s if again else 0)
        while True:
            if await worker.start(limit_s):
                break
            await worker.kill()
            if time.monotonic() > until:
                self.violation("restart", f"{worker.name}: {worker.failure}")
                return False
            await asyncio.sleep(0.1)
        self.log(f"{worker.name}: ready, process {worker.ready['pid']}")
        if worker.name[0] == "t":
            target = int(worker.name[1:])
            self.world.started(target, worker.ready["pid"], worker.ready["addresses"])
            self.world.whole(target, ALLOCATED)
        return True

    def may_lose_memory(self, worker):
        if worker.name[0] == "t":
            self.world.may_lose(int(worker.name[1:]), ALLOCATED)
            self.world.ended(int(worker.name[1:]))

    async def replace(self, worker):
        """After a crash, so that the run goes on."""
        if worker.name in self.replacing:
            return
        self.replacing.add(worker.name)
        interval = soak_checks.Interval(worker.name, time.monotonic() - 1)
        self.intervals.append(interval)
        self.may_lose_memory(worker)
        if worker.name[0] == "i":
            self.initiator_killed = time.monotonic()
        if await self.start_worker(worker) and worker.name[0] == "i":
            await self.tell(worker, "start")
        interval.end = time.monotonic()
        self.replacing.discard(worker.name)

    async def tell(self, worker, command, limit_s=30.0):
        """False: no answer. That is no violation of its own where the process died."""
        try:
            answer = await worker.ask(command, limit_s)
        except NoAnswer as failure:
            self.log(str(failure))
            if not isinstance(failure, Gone):
                self.violation("hang", str(failure))
            return False
        if answer.get("error"):
            self.violation("refused", f"{worker.name}: {command}: {answer['error']}")
        return True

    # Faults.

    async def inject(self, fault, storm_begin):
        await asyncio.sleep(max(0.0, storm_begin + fault.at_s - time.monotonic()))
        # On a slow machine the one before may not be healed yet.
        async with self.lanes[fault.subject, KINDS[fault.kind][1]]:
            if fault.subject not in self.replacing:
                await self.inject_now(fault, storm_begin + fault.at_s + fault.duration_s)

    async def inject_now(self, fault, end):
        interval = soak_checks.Interval(fault.subject, time.monotonic())
        self.intervals.append(interval)
        self.faults += 1
        self.active[id(fault)] = fault
        self.log(f"FAULT {fault}")
        try:
            heal = await self.break_it(fault)
            await asyncio.sleep(max(0.0, end - time.monotonic()))
            if self.options.plant == "stuck" and fault.kind == "partition":
                return  # never healed
            if heal is not None:
                await heal()
            self.log(f"healed: {fault.kind} {fault.subject}")
        finally:
            interval.end = time.monotonic()
            del self.active[id(fault)]

    async def break_it(self, fault):
        """Returns what heals it."""
        if KINDS[fault.kind][1] == "network":
            return await self.network.disturb(fault.kind, self.host_of(fault.subject), fault.detail)
        if fault.kind == "kill directory":
            await self.directory.kill()
            return self.directory.start
        worker = self.workers[fault.subject]
        if fault.kind.startswith("kill"):
            self.may_lose_memory(worker)
            await worker.kill()
            return lambda: self.start_again(worker)
        if fault.kind.startswith("stop"):
            worker.signal(signal.SIGSTOP)

            async def go_on():
                worker.signal(signal.SIGCONT)
            return go_on
        if fault.kind == "reregister":
            await self.tell(worker, f"reregister {fault.detail.split()[1]}")
            return None
        if fault.kind == "unregister":
            await self.tell(worker, f"unregister {fault.detail.split()[1]}")
            return lambda: self.tell(worker, f"register {fault.detail.split()[1]}")
        command = fault.kind.split()[-1]
        loses = fault.kind == "truncate"
        if loses:
            self.world.may_lose(int(fault.subject[1:]), FRAGILE)
        await self.tell(worker, command)

        async def heal():
            await self.tell(worker, {"truncate": "extend", "readonly": "writable"}[command])
            if loses:
                self.world.whole(int(fault.subject[1:]), FRAGILE)
        return heal

    async def start_again(self, worker):
        if worker.name[0] == "i":
            self.initiator_killed = time.monotonic()
        if await self.start_worker(worker) and worker.name[0] == "i":
            await self.tell(worker, "start")

    # Phases.

    def initiators(self):
        return [worker for name, worker in sorted(self.workers.items()) if name[0] == "i"]

    async def everywhere(self, command, limit_s):
        return await asyncio.gather(*(self.tell(worker, command, limit_s)
                                      for worker in self.initiators()))

    async def quiet(self):
        """All is healed: every path must work again, and everything is compared."""
        while self.replacing:
            await asyncio.sleep(0.05)
        for worker in self.workers.values():
            if not worker.running:
                await self.start_again(worker)
        self.log("quiet")
        bound = self.options.recover_ms
        await self.everywhere(f"recover {bound}", bound / 1000 + 30)
        for worker, paused in zip(self.initiators(), await self.everywhere("pause", 45)):
            if not paused and worker.running:  # its threads hang, which was told
                await worker.kill()
                await self.start_again(worker)
                await self.tell(worker, "pause")
        if time.monotonic() - self.initiator_killed > 20:
            await self.everywhere("settle", 30)
        await self.everywhere("sweep", 60)
        self.check_unmet()
        for worker in self.workers.values():
            if worker.running and (sample := worker.sample()) is not None:
                worker.samples.append(sample)
                if (grown := soak_checks.growth(worker.samples)) is not None:
                    self.violation("growth", f"{worker.name}: {grown}")
                    worker.samples = worker.samples[-1:]
        await self.everywhere("resume", 30)

    def check_unmet(self):
        for initiator, event in self.unmet:
            subjects = {initiator, f"t{event['target']}"}
            if soak_checks.excused(self.intervals, subjects, event["begin"], event["end"]):
                continue
            self.violation("unmet", f"{initiator} to t{event['target']}, submitted at "
                           f"{event['begin'] - self.begin:.2f} s with a timeout of "
                           f"{event['timeout_ms']} ms: {event['state']}: {event['error']}",
                           event["end"])
        self.unmet = []

    async def show_progress(self):
        while True:
            await asyncio.sleep(3)
            self.out(self.progress())

    async def exchange_keys(self):
        while True:
            await asyncio.sleep(1)
            await asyncio.to_thread(self.keys.exchange)

    async def start_all(self):
        if self.options.security == "tls":
            keys_folder = os.path.join(self.folder, "keys")
            os.mkdir(keys_folder)
            self.keys = Keys(self.options.te, keys_folder)
        await self.network.build(self.hosts())
        self.directory = Directory(self.shape.directory, "dir" if self.shape.network else None,
                                   self.network.address("dir" if self.shape.network else None),
                                   self.folder, self.options.te, self.options.log_folder)
        await self.directory.start()
        await self.directory.wait_until_ready(self.host_of("i0"))
        for role, count in (("t", self.shape.targets), ("i", self.shape.initiators)):
            for index in range(count):
                name = f"{role}{index}"
                self.workers[name] = Worker(name, self.host_of(name), self.arguments(name),
                                            self.options.log_folder, self.hear)
                if not await self.start_worker(self.workers[name], again=False):
                    raise RuntimeError(f"{name} does not start: {self.workers[name].failure}")
        await self.everywhere("start", 30)

    def rounds(self, plan):
        """A planted fault comes up with transfers, not seconds: on a slow machine, more rounds."""
        yield from plan
        end = time.monotonic() + PLANT_S
        while self.options.plant and not self.violations and time.monotonic() < end:
            self.log("once more: what was planted did not come up")
            yield from plan

    async def run(self):
        plan = storms(self.options.seed, self.shape, self.options.seconds)
        await self.start_all()
        beside = [asyncio.ensure_future(self.show_progress())]
        if self.keys:
            beside.append(asyncio.ensure_future(self.exchange_keys()))
        try:
            await asyncio.sleep(0.5)
            await self.quiet()  # without faults: what it ends with is the end of the warm-up
            for faults in self.rounds(plan):
                now = time.monotonic()
                await asyncio.gather(*(self.inject(fault, now) for fault in faults))
                await self.quiet()
            self.over = True
            for _, worker in sorted(self.workers.items()):  # initiators first
                worker.expected_end = True
                if worker.running and await self.tell(worker, "quit"):
                    await asyncio.wait_for(worker.gone.wait(), 10)
        except asyncio.TimeoutError:
            self.violation("hang", "a process does not end after it destroyed its engine")
        finally:
            self.over = True
            for each in beside:
                each.cancel()
            self.write_log()

    def write_log(self):
        path = os.path.join(self.options.log_folder, "events.log")
        with open(path, "w", encoding="utf-8") as file:
            for seconds, text in sorted(self.events):
                file.write(f"{seconds:8.3f} {text}\n")
