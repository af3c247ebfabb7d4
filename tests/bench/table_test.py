"""bench/table.py on reports of few rows: python3 table_test.py FOLDER."""
import sys
import unittest


def row(case, **more):
    known = dict.fromkeys(table.KEPT)
    return known | {"case": case, "unit": "GB/s"} | more


def report(cpu, *rows):
    machine = {"cpu": cpu, "cores": 2, "kernel": "Linux 6.1", "memory": "24 GiB",
               "date": "2026-01-02T03"}
    return {"machine": machine, "results": list(rows)}


def measured(case, ratio, met):
    return row(case, value=3.25, limit=3250, limit_name="sockets", ratio=ratio, ratio_min=ratio / 2,
               ratio_max=ratio * 2, bar=">= 0.9 of the limit", met=met)


class TableTest(unittest.TestCase):
    def test_a_row_has_its_ratio_and_its_bar(self):
        lines = table.table(report("Any", measured("write", 0.8, False),
                                   measured("read", 1.0, True),
                                   row("left out", skipped="nothing here")))
        self.assertEqual(lines[0], "### Any, 2 cores")
        self.assertIn("1 of 2 bars are met.", lines[2])
        self.assertIn("| write | 3.25 GB/s | 3,250, sockets | 0.80 (0.40–1.60) | >= 0.9 | "
                      "**missed** |", lines)
        self.assertIn("| left out |  |  |  |  | not measured: nothing here |", lines)

    def test_each_missed_bar_names_the_models(self):
        read = measured("read", 1, True)
        lines = table.missed([report("One", measured("write", 0.8, False), read),
                              report("Two", measured("write", 1, True), read)])
        self.assertEqual(lines[2:], ["| write | One, 2 cores | Two, 2 cores |"])
        self.assertEqual(table.missed([report("Two", measured("write", 1, True))]),
                         ["Every bar is met on every model."])

    def test_only_what_lies_between_the_marks_is_written(self):
        old = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
        page = table.page_text(old, [report("One", measured("write", 1, True))])
        self.assertTrue(page.startswith(f"before\n{table.BEGIN}\n\nEvery bar"))
        self.assertTrue(page.endswith(f"\n{table.END}\nafter\n"))
        self.assertNotIn("old", page)
        self.assertEqual(table.page_text(page, [report("One", measured("write", 1, True))]), page)


if __name__ == "__main__":
    sys.path.insert(0, sys.argv.pop(1))
    import table  # pylint: disable=import-error
    unittest.main(argv=sys.argv[:1], verbosity=2)
