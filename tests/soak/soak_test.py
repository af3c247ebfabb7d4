"""The schedule is the seed's and spares whom it must; the driver's checks find what they seek."""
import signal
import unittest

import soak_checks
from soak_checks import Interval
from soak_plan import CERTAIN_S, KINDS, STORM_S, Shape, choose_directory, storms

SHAPE = Shape(targets=3, initiators=2, threads=3, network=True, directory="redis")


class Plan(unittest.TestCase):
    def test_is_a_function_of_the_seed(self):
        self.assertEqual(storms(7, SHAPE, 120), storms(7, SHAPE, 120))
        self.assertNotEqual(storms(7, SHAPE, 120), storms(8, SHAPE, 120))

    def test_every_kind_occurs(self):
        kinds = {fault.kind for storm in storms(1, SHAPE, 1000) for fault in storm}
        self.assertEqual(kinds, set(KINDS))

    def test_faults_of_one_lane_do_not_overlap_and_end_with_the_storm(self):
        for storm in storms(3, SHAPE, 600):
            self.assertTrue(storm)
            busy = {}
            for fault in sorted(storm, key=lambda each: each.at_s):
                lane = fault.subject, KINDS[fault.kind][1]
                self.assertGreater(fault.at_s, busy.get(lane, 0))
                busy[lane] = fault.at_s + fault.duration_s
                self.assertLessEqual(busy[lane], STORM_S + 1e-3)
                self.assertLess(fault.at_s, STORM_S - CERTAIN_S)

    def test_a_pair_is_spared(self):
        subjects = {fault.subject for storm in storms(5, SHAPE, 1000) for fault in storm}
        self.assertEqual(subjects, {"t0", "t1", "i0", "directory"})

    def test_without_hosts_the_network_is_left_alone(self):
        shape = Shape(2, 1, 1, network=False, directory="none")
        kinds = {fault.kind for storm in storms(5, shape, 1000) for fault in storm}
        self.assertNotIn("partition", kinds)
        self.assertNotIn("kill directory", kinds)
        self.assertIn("stop target", kinds)

    def test_pinned_memory_is_not_truncated(self):
        shape = Shape(2, 1, 1, network=False, directory="none", pinned=True)
        kinds = {fault.kind for storm in storms(5, shape, 1000) for fault in storm}
        self.assertFalse({"truncate", "local truncate"} & kinds)
        self.assertLessEqual({"readonly", "local readonly"}, kinds)

    def test_even_a_short_run_has_faults(self):
        for seed in range(20):
            self.assertTrue(storms(seed, SHAPE, 5)[0])

    def test_the_directory_is_the_seeds(self):
        kinds = ["none", "http", "etcd"]
        chosen = [choose_directory(seed, "any", kinds) for seed in range(50)]
        self.assertEqual(chosen, [choose_directory(seed, "any", kinds) for seed in range(50)])
        self.assertEqual(set(chosen), set(kinds))
        self.assertEqual(choose_directory(1, "redis", kinds), "redis")


class Checks(unittest.TestCase):
    def test_a_failure_is_excused_by_a_fault_of_its_ends_alone(self):
        intervals = [Interval("t0", 10.0, 12.0), Interval("i0", 30.0)]
        excused = soak_checks.excused
        self.assertTrue(excused(intervals, {"t0", "i1"}, 11.0, 11.5))
        self.assertTrue(excused(intervals, {"t0", "i1"}, 9.0, 10.5))
        self.assertTrue(excused(intervals, {"t0", "i1"}, 13.0, 14.0), "the path rests")
        self.assertFalse(excused(intervals, {"t0", "i1"}, 8.0, 9.0))
        self.assertFalse(excused(intervals, {"t0", "i1"}, 20.0, 21.0))
        self.assertFalse(excused(intervals, {"t1", "i1"}, 11.0, 11.5))
        self.assertTrue(excused(intervals, {"t1", "i0"}, 99.0, 99.5), "it still lasts")

    def test_deaths(self):
        self.assertIsNone(soak_checks.death(-signal.SIGKILL, True))
        self.assertIsNone(soak_checks.death(0, True))
        self.assertIn("SIGKILL", soak_checks.death(-signal.SIGKILL, False))
        self.assertIn("SIGSEGV", soak_checks.death(-signal.SIGSEGV, True))
        self.assertIn("SIGBUS", soak_checks.death(-signal.SIGBUS, False))
        self.assertIn("status 0", soak_checks.death(0, False))
        self.assertIn("status 3", soak_checks.death(3, True))

    def test_growth(self):
        mib = 1 << 20
        steady = [(80 * mib, 40), (90 * mib, 44), (88 * mib, 41), (91 * mib, 45)]
        self.assertIsNone(soak_checks.growth(steady))
        self.assertIn("descriptors", soak_checks.growth([(mib, 40), (mib, 70), (mib, 100)]))
        self.assertIn("memory", soak_checks.growth([(mib, 40), (60 * mib, 40), (90 * mib, 40)]))
        self.assertIsNone(soak_checks.growth([(mib, 40), (mib, 40), (90 * mib, 90)]), "a peak")
        self.assertIsNone(soak_checks.growth([(mib, 40), (90 * mib, 90)]), "too early to tell")


if __name__ == "__main__":
    unittest.main()
