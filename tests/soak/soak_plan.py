"""The seeded schedule of faults: a pure function of the seed and the shape of the run.

Two lanes a subject: what happens to its process and memory, which needs it to obey, and what
happens to its network. Faults of one lane of one subject never overlap; others do.
"""
import dataclasses
import random

STORM_S = 6.0  # of faults, before everything is healed and checked
QUIET_S = 3.0  # what healing and checking takes, about
GAP_S = (0.15, 0.9)  # between the beginnings of faults
DURATION_S = (0.2, 3.5)

# kind -> (subjects, lane, weight)
KINDS = {
    "kill target": ("target", "process", 3),
    "stop target": ("target", "process", 5),
    "kill initiator": ("initiator", "process", 1),
    "stop initiator": ("initiator", "process", 2),
    "truncate": ("target", "process", 2),
    "readonly": ("target", "process", 2),
    "unregister": ("target", "process", 2),
    "reregister": ("target", "process", 2),
    "local truncate": ("initiator", "process", 1),
    "local readonly": ("initiator", "process", 1),
    "partition": ("host", "network", 5),
    "loss": ("host", "network", 2),
    "slow": ("host", "network", 2),
    "reset": ("host", "network", 2),
    "kill directory": ("directory", "process", 1),
}
# A NIC goes on with the pages that it pinned: what a file has in their place later is not theirs.
NOT_WITH_PINNED_MEMORY = ("truncate", "local truncate")
CERTAIN_S = 0.4  # of quiet at the end of a storm: heals are spread before it


@dataclasses.dataclass(frozen=True)
class Fault:
    at_s: float  # from the beginning of its storm
    kind: str
    subject: str  # "t0", "i1", "directory"
    duration_s: float
    detail: str  # a direction, a loss in percent, a buffer ...

    def __str__(self):
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.kind} {self.subject}{detail} for {self.duration_s:.2f} s"


@dataclasses.dataclass(frozen=True)
class Shape:
    targets: int
    initiators: int
    threads: int
    network: bool  # hosts of their own, whose network can be disturbed
    directory: str
    pinned: bool = False  # by NICs

    def spared(self):
        """A pair that meets no fault: whatever befalls others must not disturb it."""
        if self.targets < 2 or self.initiators < 2:
            return set()
        return {f"t{self.targets - 1}", f"i{self.initiators - 1}"}

    def subjects(self, what):
        targets = [f"t{i}" for i in range(self.targets)]
        initiators = [f"i{i}" for i in range(self.initiators)]
        found = {"target": targets, "initiator": initiators,
                 "host": targets + initiators if self.network else [],
                 "directory": [] if self.directory == "none" else ["directory"]}[what]
        return [name for name in found if name not in self.spared()]


def detail_of(kind, dice):
    if kind == "partition":
        return dice.choice(("both", "in", "out"))
    if kind == "loss":
        return f"{dice.choice((2, 10, 30))} %"
    if kind == "slow":
        return f"{dice.choice((1, 10, 100))} mbit"
    if kind in ("unregister", "reregister"):
        return f"buffer {dice.choice((0, 1))}"
    return ""


def storm(dice, shape, length_s):
    kinds = [kind for kind, (what, _, _) in KINDS.items() if shape.subjects(what)
             and not (shape.pinned and kind in NOT_WITH_PINNED_MEMORY)]
    weights = [KINDS[kind][2] for kind in kinds]
    busy = {}  # (subject, lane) -> until
    faults = []
    at = dice.uniform(0.05, 0.3)
    while at < length_s - CERTAIN_S:
        kind = dice.choices(kinds, weights)[0]
        what, lane, _ = KINDS[kind]
        subject = dice.choice(shape.subjects(what))
        duration = round(min(dice.uniform(*DURATION_S), length_s - at), 3)
        detail = detail_of(kind, dice)
        if busy.get((subject, lane), 0) <= at:
            faults.append(Fault(round(at, 3), kind, subject, duration, detail))
            busy[subject, lane] = at + duration + 0.1
        at += dice.uniform(*GAP_S)
    return faults


def storms(seed, shape, seconds):
    """A list of faults for each storm."""
    dice = random.Random(seed)
    count = max(1, round((seconds - QUIET_S) / (STORM_S + QUIET_S)))
    length = min(STORM_S, max(2.0, seconds - QUIET_S))
    return [storm(dice, shape, length) for _ in range(count)]


def choose_directory(seed, wanted, available):
    return random.Random(f"directory {seed}").choice(available) if wanted == "any" else wanted
