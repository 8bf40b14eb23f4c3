"""Sections: probe, k-NN, zero-shot and retrieval over the runs; images shared with the test sets."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from PIL import Image

from genview.evaluation.catalogue import file_name
from genview.report import aggregate, curves, differences, drawing, pictures, seeds, wording
from genview.report.blocks import Block, Card, Cell, Figure, Gallery, Note, Section, Table
from genview.report.differences import Finder
from genview.report.results import Results
from genview.report.summary import Measurement
from genview.results import StudyResults

TASKS = {
    "probes": ("Linear probe and k-NN", "probe"),
    "parts": ("Probes by part of the features, and on perturbed images", "probe by part"),
    "zeroshot": ("Zero-shot classification", "zero-shot"),
    "retrieval": ("Image-text retrieval", "retrieval"),
    "finetune": ("Fine-tuning with few labels", "fine-tuning"),
    "detection": ("Detection and instance segmentation", "Mask R-CNN"),
    "saliency": ("Saliency by a cut of the patch tokens (TokenCut)", "TokenCut"),
    "video": ("Masks that travel through videos (label propagation)", "video"),
    "mmvp": ("Pairs that differ in one attribute (MMVP-VLM)", "MMVP"),
}
SHOWN_PAIRS = 8
TOP5_FROM = 20
"""Classes from which top-5 accuracy says something."""


def section(study: StudyResults) -> Section | None:
    """One table and one figure per task, with intervals."""
    results = study.artifacts
    measured = [row for row in study.rows if row.task != aggregate.TASK]
    if not measured:
        return None
    records = results.evaluations()
    of_runs = results.derived()
    shown = [row for row in measured if _shown(row, records)]
    rows = [row for row in shown if row.run not in of_runs]
    find = differences.between(results.folder, results.folder)
    means = [row for row in study.rows if row.task == aggregate.TASK and row.run not in of_runs]
    over = differences.of_studies(results, results)
    blocks: list[Block] = _means(means, over)
    for task, (title, _) in TASKS.items():
        chosen = [row for row in rows if row.task == task]
        if chosen:
            blocks.append(_table(title, chosen, records, find))
            blocks.append(_figure(title, task, [row for row in chosen if row.metric != "top5"]))
    blocks += _perturbed(results)
    blocks += differences.gains(results, study.rows, over, TASKS)
    blocks += differences.table(results, _lines([row for row in rows if row.metric != "top5"]), TASKS)
    blocks += curves.blocks(results, [row for row in shown if row.metric != "top5"], TASKS)
    blocks += seeds.blocks(results, _lines(rows), TASKS)
    blocks += _protocol({key: record for key, record in records.items() if key[1] not in of_runs})
    lead = (
        "Each number stands over its 95 % interval. The best run of a row is marked only where its differences to all "
        f"others lie above 0 ({differences.HOW}; where those are not kept, where its interval lies above all others'); "
        "where none is marked, the study cannot tell them apart. Chance is what "
        "guessing would reach. All other metrics are in summary.csv."
    )
    own = [row for row in rows if row.metric == records[row.task, row.run, row.dataset].get("metric", row.metric)]
    return Section("evaluation", "Evaluation", lead, blocks, " ".join([*_of_means(means, over), headline(own, find)]))


def _means(rows: list[Measurement], find: Finder) -> list[Block]:
    """Means over datasets by run, with the list that each is over."""
    runs = list(dict.fromkeys(row.run for row in rows))
    body = []
    for (_, name, metric), by_run in _lines(rows).items():
        task, _, rest = name.partition(", ")
        group, _, listed = rest.partition(": ")
        marked = best(list(by_run.values()), find)
        cells = [_cell(by_run.get(run), marked) for run in runs]
        body.append([Cell(f"{TASKS[task][1]}, {group}", f"{wording.title(metric)}, over {listed}"), *cells])
    if not body:
        return []
    columns = ["mean over", *runs]
    caption = (
        "Each data set counts once, by its own metric (retrieval: the smallest recall, both ways). Small print: 95 % "
        "interval, test images of each data set resampled. Groups are VTAB's."
    )
    return [Table("Means over data sets", columns, body, caption, numeric=range(1, len(columns)))]


def _of_means(rows: list[Measurement], find: Finder) -> list[str]:
    """A sentence on the mean over all probed datasets, of the run where it is largest against the next one."""
    chosen = [
        row for row in rows if row.dataset.startswith(f"probes, {aggregate.ALL}: ") and row.metric == aggregate.MEAN
    ]
    if len(chosen) < 2:
        return []
    first, second = sorted(chosen, key=lambda row: -row.value)[:2]
    paired = find(second, first)
    by = f", a difference of {' '.join(differences.shown(paired))} points" if paired else ""
    return [
        f"Mean over {wording.plural(first.count or 0, 'probed data set')}: {first.run} {wording.percent(first.value)} "
        f"against {wording.percent(second.value)} of {second.run}{by}."
    ]


def _cell(row: Measurement | None, marked: Measurement | None) -> Cell:
    if row is None:
        return Cell("–")
    return Cell(wording.percent(row.value), wording.interval(row.low, row.high, share=True), row is marked)


def headline(rows: list[Measurement], find: Finder | None = None) -> str:
    """How often one run is clearly the best, over all tests that more than one run took, and where by most."""
    contests = [list(by_run.values()) for by_run in _lines(rows).values() if len(by_run) > 1]
    winners = [(winner, contest) for contest in contests if (winner := best(contest, find))]
    if not contests:
        return f"{wording.plural(len(rows), 'measurement')}."
    total = wording.plural(len(contests), "comparison")
    if not winners:
        return f"No run is clearly the best ({total})."
    counts = Counter(winner.run for winner, _ in winners)
    leads = wording.listing(f"{run} is clearly the best in {number}" for run, number in counts.items())
    winner, contest = max(winners, key=lambda pair: pair[0].value - _second(*pair).value)
    second = _second(winner, contest)
    paired = find(second, winner) if find else None
    by = f", a difference of {' '.join(differences.shown(paired))} points" if paired else ""
    return (
        f"Of {total} between runs, {leads}; by most in {TASKS[winner.task][1]} on {winner.dataset} "
        f"({wording.title(winner.metric)} {wording.percent(winner.value)} against {wording.percent(second.value)}{by})."
    )


def _second(winner: Measurement, contest: list[Measurement]) -> Measurement:
    return max((row for row in contest if row is not winner), key=lambda row: row.value)


def best(rows: list[Measurement], find: Finder | None = None) -> Measurement | None:
    """The one measurement that is clearly above all others, if there is one.

    Args:
        rows: of different runs, of one metric on one dataset.
        find: gives differences over the same test images; where it does not, the intervals must lie apart.
    """
    if len(rows) < 2:
        return None
    top = max(rows, key=lambda row: row.value)
    return top if all(_above(top, row, find) for row in rows if row is not top) else None


def _above(top: Measurement, row: Measurement, find: Finder | None) -> bool:
    if find and (difference := find(row, top)):
        return difference.low > 0
    return None not in (top.low, row.high) and top.low > row.high


def _lines(rows: list[Measurement]) -> dict[tuple[str, str, str], dict[str, Measurement]]:
    """Measurements by run, of each task, dataset and metric."""
    lines: dict[tuple[str, str, str], dict[str, Measurement]] = {}
    for row in rows:
        lines.setdefault((row.task, row.dataset, row.metric), {})[row.run] = row
    return lines


def _table(
    title: str, rows: list[Measurement], records: Mapping[tuple[str, str, str], dict[str, Any]], find: Finder
) -> Table:
    runs = list(dict.fromkeys(row.run for row in rows))
    body = []
    for (task, dataset, metric), by_run in _lines(rows).items():
        marked = best(list(by_run.values()), find)
        cells = [_cell(by_run.get(run), marked) for run in runs]
        first = next(iter(by_run.values()))
        notes = [wording.title(metric), f"{wording.plural(first.count, 'test item')}" if first.count else ""]
        guessing = aggregate.chance(records[task, first.run, dataset], metric)
        notes.append(f"chance {wording.percent(guessing)}" if guessing is not None else "")
        body.append([Cell(dataset, ", ".join(note for note in notes if note)), *cells])
    columns = ["dataset", *runs]
    return Table(title, columns, body, "Small print: 95 % interval.", numeric=range(1, len(columns)))


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
        names = [f"{dataset}, {wording.title(metric)}" for _, dataset, metric in lines]
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set(xlabel="per cent", title=title)
        figure.legend(loc="outside lower center", ncols=min(3, len(runs)))
        text = drawing.svg(figure, name)
    alt = f"{title}: values and intervals of the table as points and lines."
    return Figure(name, text, alt, "The table as a picture: points are the values, lines their 95 % intervals.")


def _shown(row: Measurement, records: Mapping[tuple[str, str, str], dict[str, Any]]) -> bool:
    """The dataset's own metric, the same by k-NN, top-5 among many classes; every recall of retrieval."""
    record = records[row.task, row.run, row.dataset]
    own = record.get("metric")
    if own is None or row.task in ("retrieval", "finetune", "detection", "parts", "saliency", "video"):
        return True
    if row.task == "mmvp":  # of features other than the first the mean alone
        return row.metric == own or ":" not in row.metric or row.metric.startswith(f"{own}: ")
    guessing = aggregate.chance(record, "top1")
    return row.metric in (own, f"knn_{own}") or (row.metric == "top5" and (guessing or 0) <= 1 / TOP5_FROM)


def _protocol(records: Mapping[tuple[str, str, str], dict[str, Any]]) -> list[Block]:
    kept = {"protocol": "protocol", "selection": "chosen on", "split": "images", "data_digest": "digest of the data"}
    rows = {(task, name): [_plain(record.get(key)) for key in kept] for (task, _, name), record in records.items()}
    body = [[Cell(name, TASKS[task][1]), *cells] for (task, name), cells in rows.items()]
    used = [i for i in range(len(kept) + 1) if i == 0 or any(row[i] != "–" for row in body)]
    columns = ["dataset", *kept.values()]
    models = {run: record["model_digest"] for (_, run, _), record in records.items() if record.get("model_digest")}
    blocks: list[Block] = [
        Table("How it was measured", [columns[i] for i in used], [[row[i] for i in used] for row in body])
    ]
    if models:
        rows = [[run, _plain(digest)] for run, digest in models.items()]
        blocks.append(Table("Encoders that were measured", ["run", "digest of the weights"], rows))
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


def _perturbed(results: Results) -> list[Block]:
    """Test images as the perturbed tests show them, one picture a dataset: they are the same for all runs."""
    block = results.configuration["evaluation"].get("parts") or {"datasets": ()}
    tests, cards = block.get("perturbations", ()), []
    for name in block["datasets"]:
        files = [
            results.folder / "probes" / run / f"{file_name(name)}.perturbed.png"
            for run in results.configuration["runs"]
        ]
        file = next((file for file in files if file.is_file()), None)
        if file:
            with Image.open(file) as image:
                alt = f"images of {name}, row by row: {', '.join(tests)}"
                cards.append(Card([pictures.tile(image, alt, side=960, shown=64 * len(tests))], name, ", ".join(tests)))
    return [Gallery("Perturbed test images, a row a test", [("", cards)])] if cards else []


def duplicates(study: StudyResults) -> Section | None:
    """Test images that are also among the images of the study."""
    results = study.artifacts
    records = results.duplicates()
    if not records:
        return None
    rows, blocks, exactly, alike, own = [], [], 0, 0, []
    for dataset, record in records.items():
        by_metric = {row["metric"]: row for row in record["results"]}
        exact, near = by_metric.get("exact_share", {}), by_metric.get("near_share", {})
        tested = exact.get("count") or near.get("count") or 0
        numbers = [round((row.get("value") or 0) * tested) for row in (exact, near)]
        quantiles = record.get("cosine_quantiles") or {}
        usual = [f"{quantiles[name]:.3f}" if name in quantiles else "–" for name in ("0.5", "0.95")]
        threshold = record.get("threshold")
        shown = "–" if threshold is None else f"{threshold:g}"
        rows.append([Cell(dataset, wording.plural(tested, "test image")), *map(wording.count, numbers), shown, *usual])
        if record.get("note"):
            own.append(dataset)
            continue
        exactly, alike = exactly + numbers[0], alike + max(0, numbers[1] - numbers[0])
        gallery = _pairs(results, dataset, record.get("pairs") or [])
        blocks += [gallery] if gallery else []
    columns = ["test set", "exactly", "alike", "alike from cosine", "median", "95 of 100 below"]
    caption = (
        "Exactly: pixel for pixel an image of the study. Alike: the cosine with some image of the study, by the "
        "foreground encoder, is at least the threshold. The last columns are quantiles of each test image's largest "
        "cosine: a threshold close to them finds images that merely resemble each other."
    )
    title = "Test images in the study"
    table = Table(title, columns, rows, caption, numeric=range(1, len(columns)))
    found = []
    if exactly:
        are = "is" if exactly == 1 else "are"
        found.append(
            f"{wording.plural(exactly, 'test image')} {are} pixel for pixel among the images of the study: what is "
            "measured on these test sets is too good."
        )
    if alike:
        resemble = "resembles" if alike == 1 else "resemble"
        found.append(
            f"{wording.plural(alike, 'test image')} {resemble} an image of the study so much that the pairs below "
            "should be looked at."
        )
    if own:
        found.append(
            f"The test images of {wording.listing(own)} are the study's own: its encoders have seen them in training, "
            "though not their labels."
        )
    lead = " ".join(found) or "No test image was found among the images of the study."
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
        kind = "the same pixels" if pair.get("kind") == "exact" else "alike"
        kind += " when mirrored" if pair.get("mirrored") else ""
        text = f"{kind}, cosine {pair['cosine']:.3f}" if "cosine" in pair else kind
        if tiles:
            cards.append(Card(tiles, text=text))
    return Gallery(f"Pairs of {dataset}", [("", cards)]) if cards else None
