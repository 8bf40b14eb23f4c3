"""Section: configuration, versions, digests, and what each stage cost in seconds and bytes."""

import csv
import importlib.metadata
import platform
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from genview import __version__, made, parquet
from genview import costs as counts
from genview.data.keys import group_names, shard_names
from genview.report import drawing, wording
from genview.report.blocks import Block, Figure, Section, Source, Table
from genview.report.results import Results

LIBRARIES = ("torch", "torchvision", "open-clip-torch", "timm", "diffusers", "transformers", "accelerate",
             "clip-benchmark", "numpy", "pyarrow", "snakemake")  # fmt: skip
NOT_ARTIFACTS = ("logs", "costs", "figures", "report.html", "summary.csv", "configuration.json")


def section(results: Results) -> Section:
    """Costs, digests, versions and the effective configuration."""
    blocks: list[Block] = [*_costs(results), *_digests(results), *_accepted(results), _versions()]
    text = yaml.safe_dump(dict(results.configuration), sort_keys=False, allow_unicode=True)
    blocks.append(Source("Effective configuration, defaults included", text))
    lead = "What it took, and all that is needed to make it again."
    return Section("origin", "Cost and provenance", lead, blocks)


def _seconds(results: Results) -> dict[str, tuple[int, float, float]]:
    """Jobs, seconds and largest memory (bytes) of each stage.

    From the workflow's benchmark files, which hold the last attempt of a job, and the counts of all attempts.
    """
    costs: dict[str, tuple[int, float, float]] = {}
    folder = results.folder / "costs"
    for file in sorted(folder.rglob("*.tsv")):
        stage = file.relative_to(folder).parts[0].removesuffix(".tsv")
        with open(file, newline="", encoding="utf-8") as handle:
            for row in csv.DictReader(handle, delimiter="\t"):
                jobs, seconds, memory = costs.get(stage, (0, 0.0, 0.0))
                costs[stage] = jobs + 1, seconds + _number(row.get("s")), max(memory, 1e6 * _number(row.get("max_rss")))
    for file in folder.rglob(f"*{counts.SUFFIX}"):
        stage = file.relative_to(folder).parts[0]
        # One attempt is in the benchmark file, and the workflow's own time around it is, too.
        found = counts.read(file)
        earlier = float(found.get("seconds", 0.0)) - float(found.get("last", 0.0))
        if stage in costs and earlier > 0:
            jobs, seconds, memory = costs[stage]
            costs[stage] = jobs, seconds + earlier, memory
    return costs


def _shares(results: Results) -> dict[str, tuple[str, str]]:
    """Of each stage that reads images: time spent waiting for them, share of the device's peak; means over its jobs."""
    found: dict[str, list[dict[str, float]]] = {}
    folder = results.folder / "costs"
    for file in folder.rglob(f"*{counts.SUFFIX}"):
        count = counts.read(file)
        if "waiting_share" in count:
            found.setdefault(file.relative_to(folder).parts[0], []).append(count)
    shown = {}
    for stage, jobs in found.items():
        peaks = [job["peak_share"] for job in jobs if "peak_share" in job]
        waiting = sum(job["waiting_share"] for job in jobs) / len(jobs)
        shown[stage] = (
            wording.percent(waiting, 0),
            wording.percent(sum(peaks) / len(peaks), 0) if peaks else "unknown",
        )
    return shown


def _number(text: str | None) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return 0.0


def _bytes(results: Results) -> dict[str, int]:
    """Bytes that each folder of the study holds."""
    sizes = {}
    for entry in sorted(results.folder.iterdir()):
        if entry.name not in NOT_ARTIFACTS and not entry.name.startswith("."):
            files = [entry] if entry.is_file() else [file for file in entry.rglob("*") if file.is_file()]
            sizes[entry.name] = sum(file.stat().st_size for file in files)
    return sizes


def _costs(results: Results) -> list[Block]:
    blocks: list[Block] = []
    costs, shares = sorted(_seconds(results).items(), key=lambda item: -item[1][1]), _shares(results)
    if costs:
        total = sum(seconds for _, (_, seconds, _) in costs)
        rows = [
            [
                stage,
                wording.count(jobs),
                wording.seconds(seconds),
                wording.percent(seconds / max(total, 1e-9), 0),
                wording.size(memory) if memory else "–",
                *shares.get(stage, ("–", "–")),
            ]
            for stage, (jobs, seconds, memory) in costs
        ]
        rows.append(["all", wording.count(sum(jobs for _, (jobs, _, _) in costs)), wording.seconds(total), *[""] * 4])
        columns = ["stage", "jobs", "time", "share", "largest memory", "waiting for images", "device's peak"]
        caption = (
            "Wall-clock time of the jobs, added up; jobs that ran side by side count each, and so do attempts that "
            "were stopped or killed. Memory: the largest. Waiting for images and the share of the device's peak, where "
            "that is known, are means over the jobs that read images."
        )
        blocks += [_cost_figure(costs), Table("Time per stage", columns, rows, caption, numeric=range(1, 7))]
    sizes = _bytes(results)
    if sizes:
        rows = [[name, wording.size(number)] for name, number in sorted(sizes.items(), key=lambda item: -item[1])]
        rows.append(["all", wording.size(sum(sizes.values()))])
        blocks.append(Table("Bytes per folder", ["folder", "size"], rows, numeric=[1]))
    return blocks


def _cost_figure(costs: list[tuple[str, tuple[int, float, float]]]) -> Figure:
    names, values = [name for name, _ in costs], [cost[1] for _, cost in costs]
    with drawing.figure(4.4, 0.9 + 0.27 * len(names)) as (figure, axes):
        bars = axes.barh(range(len(names)), values, color=drawing.colour("series-1"), height=0.62)
        labels = [wording.seconds(value).replace("\u202f", " ") for value in values]
        axes.bar_label(bars, labels, padding=3, color=drawing.colour("ink"), fontsize=8.5)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.margins(x=0.18)
        axes.grid(False, axis="y")
        axes.set(xlabel="seconds", title="Time per stage")
        text = drawing.svg(figure, "cost")
    return Figure(
        "cost", text, "Bars of the seconds per stage; the table has the numbers.", "The jobs' wall-clock time by stage."
    )


def _digests(results: Results) -> list[Block]:
    rows = []
    shards = results.configuration["dataset"]["shards"]
    first = {shard_names(shards)[0], group_names(shards)[0]}
    for file in sorted(results.folder.rglob("*.parquet")):
        path = file.relative_to(results.folder)
        if path.stem in first or "-of-" not in path.stem:
            try:
                stamp = (pq.read_schema(file).metadata or {}).get(parquet.METADATA_KEY)
            except (pa.ArrowInvalid, OSError):
                continue
            if stamp:
                stamp = parquet.metadata(file)
                rows.append([path.as_posix(), *(stamp.get(name, "–") for name in ("version", "parameters", "code"))])
    columns = ["table", "version", "parameters", "code"]
    caption = "Digests of what made each table; of sharded ones the first shard stands for all."
    return [Table("Digests", columns, rows, caption)] if rows else []


def _accepted(results: Results) -> list[Block]:
    """What stands under code that did not make it, and why somebody said that it may."""
    number: Counter[tuple[str, str, str, str]] = Counter()
    for entry in made.accepted(results.folder):
        note = made.read(results.folder / entry["artifact"])
        if entry["code"] in [other["code"] for other in note.get("accepted", ())]:
            number[entry["rule"], entry["reason"], entry["made"], entry["code"]] += 1
    rows = [[rule, wording.count(many), *rest] for (rule, *rest), many in sorted(number.items())]
    columns = ["rule", "artifacts", "reason", "made by code", "stands under code"]
    caption = "Artifacts that other code made than that of the study, kept by `genview accept`; digests of the code."
    return [Table("Accepted", columns, rows, caption, numeric=[1])] if rows else []


def _versions() -> Table:
    rows = [["genview", __version__], ["Python", platform.python_version()]]
    for library in LIBRARIES:
        try:
            rows.append([library, importlib.metadata.version(library)])
        except importlib.metadata.PackageNotFoundError:
            continue
    return Table("Versions", ["package", "version"], rows, "Where this report was made.")
