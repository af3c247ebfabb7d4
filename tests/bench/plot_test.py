"""bench/plot.py on a report of few rows: python3 plot_test.py FOLDER. 77: no matplotlib here."""
import sys
import unittest

SKIPPED = 77


def row(case, unit, **more):
    known = dict.fromkeys(("value", "min", "max", "limit", "limit_min", "limit_max", "limit_name",
                           "ratio", "bar", "met", "chart", "block_size", "skipped", "failed"))
    return known | {"case": case, "unit": unit} | more


def times(first_ns):
    return {"percentiles": [[percent, first_ns + percent] for percent in range(1, 100)]}


REPORT = {"machine": {"cpu": "one & only", "cores": 2}, "results": [
    row("small <a> & b", "GB/s", value=1, min=0.5, max=2, limit=2, limit_min=1, limit_max=3,
        ratio=0.5, bar=">= 0.9 of the limit", met=False, chart="TCP write", block_size=4096),
    row("large", "GB/s", value=3, min=3, max=3, chart="TCP write", block_size=1 << 20),
    row("alone", "GB/s", value=3, min=3, max=3, chart="TCP read", block_size=1 << 20),
    row("latency", "us", value=3, min=2, max=4, limit_name="its limit", value_ns=times(3000),
        limit_ns=times(2000)),
    row("left out", "us", skipped="nothing here"),
    row("broken", "us", failed="bytes were wrong"),
]}


class PlotTest(unittest.TestCase):
    def test_a_page_has_its_plots_and_all_rows(self):
        page = plot.page(REPORT)
        # A chart of one point is none.
        self.assertEqual(page.count("<svg"), 2)
        for text in ("<td>small &lt;a&gt; &amp; b</td>", "one &amp; only", "not met", "4 KiB",
                     "<h2>Throughput</h2>", "<h2>Latency</h2>", "skipped: nothing here",
                     "failed: bytes were wrong"):
            self.assertIn(text, page)
        self.assertEqual(page.count("class=missed"), 2)

    def test_it_is_self_contained(self):
        for text in ("<script", "src=", "@import", "url(http"):
            self.assertNotIn(text, plot.page(REPORT))


if __name__ == "__main__":
    sys.path.insert(0, sys.argv.pop())
    try:
        import plot
    except ImportError as missing:
        print(f"SKIPPED: {missing}")
        sys.exit(SKIPPED)
    unittest.main()
