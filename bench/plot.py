"""Plots of what te_suite wrote as JSON, on one page: python3 bench/plot.py RESULTS.json PAGE.html

Throughput and CPU time over block sizes, each beside its limit; latencies as the share of
transfers that took at most so long; then a table of all rows. The page is self-contained.
"""
import argparse
import html
import io
import json
import sys

import matplotlib
matplotlib.use("svg")
from matplotlib import pyplot as plt  # noqa: E402 (after the choice of the backend)

STYLE = """body { font: 14px/1.45 sans-serif; margin: 2em auto; max-width: 1200px; }
svg { width: 32%; height: auto; } table { border-collapse: collapse; }
td, th { padding: 2px 10px; text-align: left; border-bottom: 1px solid #ddd; }
.missed { color: #c2410c; font-weight: 600; }"""


def block_text(size):
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"


def svg(figure):
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    plt.close(figure)
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]


def axes(title, x, y):
    figure, plot = plt.subplots(figsize=(5, 3.2), layout="constrained")
    plot.set(title=title, xlabel=x, ylabel=y, xscale="log")
    plot.grid(alpha=0.3)
    return figure, plot


def over_block_sizes(chart, unit, rows):
    """Medians with the lowest and the highest round; the limit dashed."""
    figure, plot = axes(chart, "block size", unit)
    for name, style, keys in (("engine", "o-", ("value", "min", "max")),
                              ("limit", "s--", ("limit", "limit_min", "limit_max"))):
        points = [(row["block_size"], *(row[key] for key in keys)) for row in rows
                  if row[keys[0]] is not None]
        if points:
            sizes, medians, lowest, highest = zip(*sorted(points))
            spread = ([a - b for a, b in zip(medians, lowest)],
                      [b - a for a, b in zip(medians, highest)])
            plot.errorbar(sizes, medians, spread, fmt=style, capsize=3, label=name)
            plot.set_xticks(sizes, map(block_text, sizes), minor=False)
            plot.minorticks_off()
    plot.set_ylim(bottom=0)
    plot.legend()
    return svg(figure)


def distribution(row):
    figure, plot = axes(row["case"], "µs", "% of the transfers")
    for name, style, key in (("engine", "-", "value_ns"), (row["limit_name"], "--", "limit_ns")):
        if key in row:
            percents, times = zip(*row[key]["percentiles"])
            plot.step([time / 1e3 for time in times], percents, style, where="post", label=name)
    plot.legend()
    return svg(figure)


def charts(rows):
    """Titles and plots, as the rows name their charts."""
    measured = [row for row in rows if row["value"] is not None]
    for unit, title in (("GB/s", "Throughput"), ("s/GB", "CPU time of both sides together")):
        named = [row for row in measured if row["chart"] and row["unit"] == unit]
        for chart in dict.fromkeys(row["chart"] for row in named):
            own = [row for row in named if row["chart"] == chart]
            if len(own) > 1:
                yield title, over_block_sizes(chart, unit, own)
    for row in measured:
        if "value_ns" in row:
            yield "Latency", distribution(row)


def number(value):
    return "" if value is None else f"{value:.4g}"


def table_row(row):
    verdict = {True: "met", False: "not met", None: ""}[row["met"]]
    for why in ("skipped", "failed"):
        verdict = f"{why}: {row[why]}" if row[why] is not None else verdict
    cells = (row["case"], number(row["value"]), number(row["limit"]), row["unit"],
             number(row["ratio"]), row["bar"] or "", verdict, row["limit_name"] or "")
    missed = row["failed"] is not None or row["met"] is False
    return (f"<tr{' class=missed' if missed else ''}>"
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")


def page(report):
    parts = ["<!DOCTYPE html><meta charset='utf-8'><title>Transfer Engine: benchmarks</title>",
             f"<style>{STYLE}</style><h1>Transfer Engine: benchmarks</h1>", "<p>"]
    parts += [f"{html.escape(key)}: {html.escape(str(value))}<br>"
              for key, value in report["machine"].items()]
    parts += ["<p>Each figure is the median of several rounds; in each round the engine and its "
              "limit were measured one after the other. Bars span the lowest and the highest."]
    before = None
    for title, plot in charts(report["results"]):
        parts += [f"<h2>{title}</h2>"] if title != before else []
        parts.append(plot)
        before = title
    parts += ["<h2>All figures</h2><table>", "<tr><th>case<th>value<th>limit<th>unit<th>ratio"
              "<th>bar<th><th>the limit</tr>", *map(table_row, report["results"]), "</table>"]
    return "\n".join(parts) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results")
    parser.add_argument("page")
    files = parser.parse_args()
    with open(files.results, encoding="utf-8") as results:
        report = json.load(results)
    with open(files.page, "w", encoding="utf-8") as out:
        out.write(page(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
