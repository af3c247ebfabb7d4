"""What the driver checks of what the workers report. Pure functions, tested by soak_test.py."""
import dataclasses
import signal

# What the workers and the driver report, and what each means.
VIOLATIONS = {
    "corrupt": "bytes that no WRITE to that range carried",
    "lost": "the bytes of a COMPLETED WRITE are not there",
    "ghost": "an earlier WRITE, or a repetition of it, landed over a later COMPLETED one",
    "poison": "bytes that a source held after its task was terminal were sent",
    "unfilled": "a READ COMPLETED, and its memory is as it was before",
    "local": "local memory was touched after the task was terminal",
    "unregistered": "memory was touched after it was unregistered",
    "late": "a task ended too long after its deadline",
    "cancel": "a cancelled task took too long to end",
    "blocked": "a call of the library took too long",
    "hang": "a task, or a process, does not end",
    "crash": "a process died of what the soak did not do to it",
    "stuck": "a path does not recover after the last fault was healed",
    "unmet": "a task failed though nothing was wrong with its target and its initiator",
    "refused": "a call failed that may not",
    "notification": "a notification came twice",
    "restart": "a target or an initiator does not come back under its name",
    "growth": "a process's memory or descriptors grow",
}

SETTLE_S = 6.0  # a path that failed rests for at most 5 s
DESCRIPTORS_MAX = 24
MEMORY_MAX = 48 << 20


@dataclasses.dataclass
class Interval:
    """When something was wrong with a subject, in seconds of the monotonic clock."""
    subject: str
    begin: float
    end: float = float("inf")


def excused(intervals, subjects, begin, end, settle=SETTLE_S):
    """Whether anything was wrong with one of the subjects during [begin, end], or just before."""
    return any(interval.subject in subjects and interval.begin <= end
               and interval.end + settle >= begin for interval in intervals)


def death(returncode, expected):
    """What is wrong with a process's end, or None. `expected`: the driver asked for it."""
    if expected and returncode in (0, -signal.SIGKILL):
        return None
    if returncode < 0:
        try:
            name = signal.Signals(-returncode).name
        except ValueError:
            name = f"signal {-returncode}"
        return f"killed by {name}"
    return f"ended with status {returncode}"


def growth(samples):
    """What grew too much over the quiet phases of one process, or None.

    `samples`: (bytes of its own memory, descriptors) of each; the first is the end of its warm-up.
    The smaller of the last two is compared, so that what is on its way does not count.
    """
    if len(samples) < 3:
        return None
    first = samples[0]
    memory, descriptors = (min(samples[-2][i], samples[-1][i]) for i in range(2))
    if descriptors - first[1] > DESCRIPTORS_MAX:
        return f"descriptors: {first[1]} after the warm-up, {descriptors} now"
    if memory - first[0] > MEMORY_MAX:
        return f"memory: {first[0] >> 20} MiB after the warm-up, {memory >> 20} MiB now"
    return None
