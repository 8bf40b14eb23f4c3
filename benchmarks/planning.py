"""How long ``snakemake -n`` takes: published studies, and the same with ten thousand shards; beside Snakemake alone.

    python benchmarks/planning.py                     # five minutes; writes the results
    python benchmarks/planning.py --only cc3m         # one of them; the others' figures are kept
    python benchmarks/planning.py --only cc3m --shards 3 --to planning.json   # a quick look

The plain workflow has as many jobs as the study's generation, each with as many inputs, outputs and logs, a script, and
no function of ours: what Snakemake takes for it, no configuration can save. Seconds are by the clock and of the
processor, of the second plan: the first one also reads the code. No plan makes a job.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import record

ROOT = Path(__file__).parent.parent
STUDIES = {
    "cc3m": ("cc3m", 1_000, 3),
    "cc3m, 10,000 shards": ("cc3m", 10_000, 3),
    "imagenet, 10,000 shards": ("imagenet", 10_000, 1),
}
"""Configuration, shards, and how many sets of views it has."""

PLAIN = """
SHARDS = [f"{{number}}-of-{shards}" for number in range({shards})]

rule all:
    input: expand("views/{{view}}/{{shard}}.{{kind}}", view={views}, shard=SHARDS, kind=("tar", "parquet"))

rule tables:
    output: "manifest", "images", "conditions", "scores"
    script: "make.py"

rule views:
    input: "code.json", "settings.json", "manifest", "images", "conditions", "scores"
    output: "views/{{view}}/{{shard}}.tar", "views/{{view}}/{{shard}}.parquet"
    log: "logs/{{view}}/{{shard}}.log", "logs/{{view}}/{{shard}}.json"
    benchmark: "costs/{{view}}/{{shard}}.tsv"
    threads: 1
    resources: gpu=1, mem_mb=4000, runtime=720
    script: "make.py"
"""


def seconds(folder: Path, *arguments: str) -> dict[str, float]:
    """Seconds of a dry-run, typed in a folder, and its number of jobs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    words = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", "-n"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    took = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    total = next(line for line in (done.stdout + done.stderr).splitlines() if line.startswith("total"))
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"jobs": int(total.split()[1]), "seconds": round(took, 1), "processor_seconds": round(processor, 1)}


def study(folder: Path, name: str, shards: int) -> dict[str, float]:
    """A published study with a number of shards."""
    values = f"extends: {ROOT / 'config' / name}.yaml\ndataset:\n  shards: {shards}\n"
    (folder / "study.yaml").write_text(values, encoding="utf-8")
    options = ("--snakefile", str(ROOT / "workflow/Snakefile"), "--configfile", "study.yaml")
    seconds(folder, *options)
    return seconds(folder, *options)


def plain(folder: Path, shards: int, views: int) -> dict[str, float]:
    """The jobs of a study's generation, written down without GenView."""
    text = PLAIN.format(shards=shards, views=[f"set_{number}" for number in range(views)])
    (folder / "Snakefile").write_text(text, encoding="utf-8")
    for name in ("code.json", "settings.json", "make.py"):
        (folder / name).touch()
    return seconds(folder)


def measured(name: str, shards: int, views: int) -> dict:
    """Both for a study."""
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        ours, theirs = study(Path(first), name, shards), plain(Path(second), shards, views)
    each = {
        side: round(1000 * one["processor_seconds"] / one["jobs"], 2)
        for side, one in (("study", ours), ("plain", theirs))
    }
    return {"shards": shards, "study": ours, "plain": theirs, "milliseconds_a_job": each}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=STUDIES, nargs="+", default=list(STUDIES), help="which studies")
    parser.add_argument("--shards", type=int, help="instead of theirs")
    parser.add_argument("--to", type=Path, default=record.RESULTS / "planning.json", help="where the results go")
    options = parser.parse_args()
    found = json.loads(options.to.read_text(encoding="utf-8"))["studies"] if options.to.is_file() else {}
    for name in options.only:
        configuration, shards, views = STUDIES[name]
        found[name] = measured(configuration, options.shards or shards, views)
    record.write({"studies": found}, options.to, "snakemake")


if __name__ == "__main__":
    main()
