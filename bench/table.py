#!/usr/bin/env python3
"""The tables of docs/performance.md, one for each processor model.

Usage: bench/table.py [RESULTS.json]
RESULTS.json: of te_suite, a whole run on a quiet machine; its rows replace those of its model in
bench/models. Then the page is written again from all of bench/models.
"""
import glob
import json
import os
import re
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(FOLDER, "models")
PAGE = os.path.join(FOLDER, "..", "docs", "performance.md")
BEGIN, END = "<!-- bench/table.py writes this -->", "<!-- to here -->"
KEPT = ("case", "value", "unit", "limit", "limit_name", "ratio", "ratio_min", "ratio_max", "bar",
        "met", "skipped", "failed")


def model_name(machine):
    return f"{machine['cpu']}, {machine['cores']} cores"


def keep(path):
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    rows = [{key: row[key] for key in KEPT} for row in report["results"]]
    slug = re.sub(r"[^a-z0-9]+", "-", model_name(report["machine"]).lower()).strip("-")
    os.makedirs(MODELS, exist_ok=True)
    with open(os.path.join(MODELS, f"{slug}.json"), "w", encoding="utf-8") as file:
        json.dump({"machine": report["machine"], "results": rows}, file, indent=1)
        file.write("\n")


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def cells(row):
    """Value, limit, ratio and whether the bar is met, as text."""
    if row["value"] is None:
        return "", "", "", f"not measured: {row['skipped'] or row['failed']}"
    ratio = ""
    if row["ratio"] is not None:
        ratio = f"{row['ratio']:.2f} ({row['ratio_min']:.2f}–{row['ratio_max']:.2f})"
    limit = "" if row["limit"] is None else f"{number(row['limit'])}, {row['limit_name']}"
    met = {None: "", True: "met", False: "**missed**"}[row["met"]]
    return f"{number(row['value'])} {row['unit']}", limit, ratio, met


def table(report):
    machine, rows = report["machine"], report["results"]
    bars = [row for row in rows if row["met"] is not None]
    lines = [f"### {model_name(machine)}", "",
             f"{machine['date'][:10]}, {machine['kernel']}, {machine['memory']}. "
             f"{sum(row['met'] for row in bars)} of {len(bars)} bars are met.", "",
             "| case | value | limit | ratio | bar | |", "|---|---|---|---|---|---|"]
    for row in rows:
        value, limit, ratio, met = cells(row)
        # "of the limit" is what the column says.
        bar = (row["bar"] or "").replace(" of the limit", "")
        lines.append(f"| {row['case']} | {value} | {limit} | {ratio} | {bar} | {met} |")
    return lines


def missed(reports):
    """For each bar that is missed somewhere: where it is missed, and where it is met."""
    where = {}
    for report in reports:
        for row in report["results"]:
            if row["met"] is not None:
                met, not_met = where.setdefault(row["case"], ([], []))
                (met if row["met"] else not_met).append(model_name(report["machine"]))
    lines = ["| bar that is missed | on | met on |", "|---|---|---|"]
    for case, (met, not_met) in where.items():
        if not_met:
            lines.append(f"| {case} | {'; '.join(not_met)} | {'; '.join(met) or 'none so far'} |")
    return lines if len(lines) > 2 else ["Every bar is met on every model."]


def page_text(text, reports):
    begin, end = text.index(BEGIN), text.index(END)
    lines = missed(reports)
    for report in reports:
        lines += ["", *table(report)]
    return text[:begin] + BEGIN + "\n\n" + "\n".join(lines) + "\n\n" + text[end:]


def main():
    if len(sys.argv) > 2 or sys.argv[1:2] in (["-h"], ["--help"]):
        print(__doc__)
        return 2
    if len(sys.argv) == 2:
        keep(sys.argv[1])
    reports = []
    for path in sorted(glob.glob(os.path.join(MODELS, "*.json"))):
        with open(path, encoding="utf-8") as file:
            reports.append(json.load(file))
    with open(PAGE, encoding="utf-8") as file:
        text = file.read()
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(page_text(text, reports))
    return 0


if __name__ == "__main__":
    sys.exit(main())
