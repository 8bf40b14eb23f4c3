"""Sections: probe, k-NN, zero-shot and retrieval over the runs; images shared with the test sets."""

from collections.abc import Mapping
from statistics import fmean, stdev
from typing import Any

from PIL import Image

from genview import provenance
from genview.report import drawing, pictures, wording
from genview.report.blocks import Block, Card, Cell, Figure, Gallery, Note, Section, Table
from genview.report.results import Results
from genview.report.summary import Measurement, measurements

TASKS = {
    "probes": ("Linear probe and k-NN", "probes"),
    "zeroshot": ("Zero-shot classification", "zero-shot"),
    "retrieval": ("Image-text retrieval", "retrieval"),
}
SHOWN_PAIRS = 8


def section(results: Results) -> Section | None:
    """One table and one figure per task, with intervals."""
    measured = measurements(results)
    if not measured:
        return None
    records = _records(results)
    rows = [row for row in measured if _shown(row, records)]
    blocks: list[Block] = []
    for task, (title, name) in TASKS.items():
        chosen = [row for row in rows if row.task == task]
        if chosen:
            blocks.append(_table(title, chosen))
            blocks.append(_figure(title, name, [row for row in chosen if row.metric != "top5"]))
    blocks += _over_seeds(results, rows)
    blocks += _protocol(records)
    lead = (
        "Each number stands over its 95 % interval. The best run of a row is marked only where its interval lies "
        "above the intervals of all others; where none is marked, the study cannot tell them apart. Metrics that are "
        "not a dataset's own are in summary.csv."
    )
    return Section("evaluation", "Evaluation", lead, blocks, _headline(rows))


def _headline(rows: list[Measurement]) -> str:
    """How often one run is clearly the best, over all tests that more than one run took."""
    contests = [list(by_run.values()) for by_run in _lines(rows).values() if len(by_run) > 1]
    winners = [winner.run for winner in map(best, contests) if winner]
    if not contests:
        return f"{wording.plural(len(rows), 'measurement')}."
    counts = {run: winners.count(run) for run in dict.fromkeys(winners)}
    total = wording.plural(len(contests), "comparison")
    if not counts:
        return f"None of {total} tells the runs apart."
    leads = wording.listing(f"{run} leads clearly in {number}" for run, number in counts.items())
    return f"Of {total} between runs, {leads}."


def best(rows: list[Measurement]) -> Measurement | None:
    """The one measurement whose interval lies above all others', if there is one."""
    if len(rows) < 2 or any(row.low is None or row.high is None for row in rows):
        return None
    top = max(rows, key=lambda row: row.value)
    return top if all(top.low > row.high for row in rows if row is not top) else None


def _lines(rows: list[Measurement]) -> dict[tuple[str, str], dict[str, Measurement]]:
    lines: dict[tuple[str, str], dict[str, Measurement]] = {}
    for row in rows:
        lines.setdefault((row.dataset, row.metric), {})[row.run] = row
    return lines


def _table(title: str, rows: list[Measurement]) -> Table:
    runs = list(dict.fromkeys(row.run for row in rows))
    body = []
    for (dataset, metric), by_run in _lines(rows).items():
        marked = best(list(by_run.values()))
        cells = [
            Cell(
                wording.percent(by_run[run].value),
                wording.interval(by_run[run].low, by_run[run].high, share=True),
                by_run[run] is marked,
            )
            if run in by_run
            else Cell("–")
            for run in runs
        ]
        tested = next(iter(by_run.values())).count
        body.append([dataset, wording.title(metric), wording.count(tested) if tested else "–", *cells])
    columns = ["dataset", "metric", "test images", *runs]
    return Table(title, columns, body, "Per cent; small print: 95 % interval.", numeric=range(2, len(columns)))


def _figure(title: str, name: str, rows: list[Measurement]) -> Figure:
    runs, lines = list(dict.fromkeys(row.run for row in rows)), _lines(rows)
    height = 0.9 + 0.34 * len(lines)
    with drawing.figure(4.6, max(2.0, height)) as (figure, axes):
        for index, run in enumerate(runs):
            style = drawing.series(index)
            label = run
            for place, by_run in enumerate(lines.values()):
                row = by_run.get(run)
                if row is None:
                    continue
                y = place + 0.5 * ((index + 0.5) / len(runs) - 0.5)
                if row.low is not None and row.high is not None:
                    axes.plot([100 * row.low, 100 * row.high], [y, y], color=style["color"], linewidth=1.4)
                axes.plot(100 * row.value, y, style["marker"], color=style["color"], markersize=4.5, label=label)
                label = None
        names = [f"{dataset}, {wording.title(metric)}" for dataset, metric in lines]
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set(xlabel="per cent", title=title)
        figure.legend(loc="outside lower center", ncols=min(3, len(runs)))
        text = drawing.svg(figure, name)
    return Figure(name, text, f"{title}: values and intervals of the table as points and lines.", "")


def _records(results: Results) -> dict[tuple[str, str, str], dict[str, Any]]:
    """What each task wrote, by task, run and dataset."""
    return {
        (task, run, file.stem): results.json(f"{task}/{run}/{file.name}") or {}
        for task in TASKS
        for run in results.configuration["runs"]
        for file in sorted((results.folder / task / run).glob("*.json"))
    }


def _shown(row: Measurement, records: Mapping[tuple[str, str, str], dict[str, Any]]) -> bool:
    """The dataset's own metric, the same by k-NN, and top-5; all of a task that names no metric of its own."""
    own = records[row.task, row.run, row.dataset].get("metric")
    return own is None or row.metric in (own, f"knn_{own}", "top5")


def _protocol(records: Mapping[tuple[str, str, str], dict[str, Any]]) -> list[Block]:
    kept = ("protocol", "selection", "metric", "split", "model_digest", "data_digest")
    rows = [[*names, *(_plain(record.get(name)) for name in kept)] for names, record in records.items()]
    columns = ["task", "run", "dataset", *(name.replace("_", " ") for name in kept)]
    used = [i for i in range(len(columns)) if i < 3 or any(row[i] != "–" for row in rows)]
    blocks: list[Block] = [
        Table("How it was measured", [columns[i] for i in used], [[row[i] for i in used] for row in rows])
    ]
    if any(record.get("selection") == "test" for record in records.values()):
        blocks.append(Note("Some results chose their settings on the test split, as the original did.", True))
    edges = [
        f"{run} on {name}" for (_, run, name), record in records.items() if (record.get("choice") or {}).get("at_edge")
    ]
    if edges:
        text = f"The choice lies at the edge of the grid for {wording.listing(edges)}: a wider grid may give more."
        blocks.append(Note(text, warning=True))
    return blocks


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"{name} {wording.count(n) if isinstance(n, int) else n}" for name, n in value.items())
    text = str(value)
    return text[:12] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text


def seeds_apart(runs: Mapping[str, Any]) -> dict[str, list[str]]:
    """Groups of runs that differ in their seed alone, by the first one's name without its number."""
    alike: dict[str, list[str]] = {}
    for name, run in runs.items():
        alike.setdefault(provenance.digest({**run, "seed": None}), []).append(name)
    return {names[0].rstrip("-_0123456789") or names[0]: names for names in alike.values() if len(names) > 1}


def _over_seeds(results: Results, rows: list[Measurement]) -> list[Block]:
    """Mean and standard deviation over the runs that differ in their seed alone."""
    groups = seeds_apart(results.configuration["runs"])
    if not groups:
        return []
    body = []
    for (dataset, metric), by_run in _lines(rows).items():
        cells = []
        for names in groups.values():
            values = [by_run[name].value for name in names if name in by_run]
            deviation = f"± {100 * stdev(values):.1f}, {len(values)} seeds" if len(values) > 1 else ""
            cells.append(Cell(wording.percent(fmean(values)), deviation) if values else Cell("–"))
        body.append([dataset, wording.title(metric), *cells])
    columns = ["dataset", "metric", *groups]
    caption = "Mean over runs that differ in their seed alone; small print: standard deviation between seeds."
    return [Table("Over seeds", columns, body, caption, numeric=range(2, len(columns)))]


def duplicates(results: Results) -> Section | None:
    """Test images that are also among the images of the study."""
    files = sorted((results.folder / "evaluation/duplicates").glob("*.json"))
    records = {file.stem: results.json(f"evaluation/duplicates/{file.name}") for file in files}
    if not records:
        return None
    rows, blocks, found = [], [], 0
    for dataset, record in records.items():
        by_metric = {row["metric"]: row for row in record["results"]}
        exact, near = by_metric.get("exact_share", {}), by_metric.get("near_share", {})
        tested = exact.get("count") or near.get("count") or 0
        numbers = [round((row.get("value") or 0) * tested) for row in (exact, near)]
        found += sum(numbers)
        rows.append(
            [dataset, wording.count(tested), *(wording.count(n) for n in numbers), str(record.get("threshold", "–"))]
        )
        gallery = _pairs(results, dataset, record.get("pairs") or [])
        blocks += [gallery] if gallery else []
    columns = ["test set", "test images", "exact", "near", "cosine from which a pair is near"]
    table = Table("Test images found among the images of the study", columns, rows, numeric=range(1, 5))
    lead = (
        f"{wording.plural(found, 'test image')} {'is' if found == 1 else 'are'} also among the images of the study; "
        "numbers on these test sets are too good by as much."
        if found
        else "No test image was found among the images of the study."
    )
    return Section("duplicates", "Shared images", lead, [table, *blocks])


def _pairs(results: Results, dataset: str, pairs: list[dict[str, Any]]) -> Gallery | None:
    cards = []
    for pair in pairs[:SHOWN_PAIRS]:
        tiles = []
        for side, words in (("train", "in the study"), ("test", "in the test set")):
            thumbnail = pair.get(f"{side}_thumbnail")
            file = results.folder / "evaluation/duplicates" / thumbnail if thumbnail else None
            if file and file.is_file():
                with Image.open(file) as image:
                    tiles.append(pictures.tile(image, f"{words}: {pair[side]}", words))
        text = f"{pair.get('kind', '')}, cosine {pair['cosine']:.3f}" if "cosine" in pair else pair.get("kind", "")
        if tiles:
            cards.append(Card(tiles, text=text))
    return Gallery(f"Pairs of {dataset}", [("", cards)]) if cards else None
