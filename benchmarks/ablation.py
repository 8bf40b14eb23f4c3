"""What each part of the method adds: four regimes, three seeds each, mean and spread of every figure.

    python benchmarks/ablation.py                 # runs config/ablation.yaml first, or what of it is missing
    python benchmarks/ablation.py --no-run        # reads what is there

A run is named <regime>_<seed>. The spread is the standard deviation over seeds, which says how much of a difference
between regimes is luck of the draw; the intervals in ``summary.csv`` are those of the test images.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import record

METRICS = ("top1", "knn_top1", "image_recall_at_10", "text_recall_at_10")


def collected(summary: Path) -> list[dict]:
    """Mean and standard deviation over seeds, for each regime, task, dataset and metric."""
    values: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    with summary.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            regime, _, seed = row["run"].rpartition("_")
            if regime and row["metric"] in METRICS:
                values[row["task"], row["dataset"], row["metric"], regime][seed] = float(row["value"])
    return [
        {
            "task": task,
            "dataset": dataset,
            "metric": metric,
            "regime": regime,
            "mean": statistics.mean(found.values()),
            "deviation": statistics.stdev(found.values()) if len(found) > 1 else None,
            "seeds": found,
        }
        for (task, dataset, metric, regime), found in values.items()
    ]


def main() -> None:
    """Run the study, print the table, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="config/ablation.yaml")
    parser.add_argument("--results", type=Path, default=Path("results/ablation"), help="the study's results")
    parser.add_argument("--no-run", action="store_true")
    parser.add_argument("--output", type=Path, default=record.RESULTS / "ablation.json")
    options = parser.parse_args()
    seconds = None
    if not options.no_run:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "snakemake", "--configfile", options.config], check=True)
        seconds = time.perf_counter() - began
    costs = defaultdict(list)
    for path in sorted((options.results / "costs" / "training").glob("*_*.tsv")):
        names, values = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[:2])
        costs[path.stem.rpartition("_")[0]].append(float(dict(zip(names, values))["cpu_time"]))
    rows = collected(options.results / "summary.csv")
    for row in rows:
        spread = "" if row["deviation"] is None else f" +- {row['deviation']:.3f}"
        print(f"{row['task']:10} {row['dataset']:13} {row['metric']:19} {row['regime']:10} {row['mean']:.3f}{spread}")
    result = {
        "figures": rows,
        "training_processor_seconds": {regime: statistics.mean(values) for regime, values in costs.items()},
        "seconds_of_the_whole_study": seconds,
    }
    record.write(result, options.output)


if __name__ == "__main__":
    main()
