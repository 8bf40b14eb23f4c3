import functools
import gc
import os
import sys
from pathlib import Path

from genview import accept, costs, home, made, provenance, stage
from genview.config import evaluation
from genview.config import load as configuration
from genview.config.base import fingerprint as fingerprint_of
from genview.config.base import runtime as runtime_of
from genview.data import fingerprint
from genview.data.keys import group_names, group_of, shard_names
from genview.errors import GenviewError
from genview.evaluation import catalogue

# No job asks the hub for anything: what a study needs has been fetched (`genview fetch`), and two hundred jobs that ask
# at once are refused. The variable is handed to the jobs, on a cluster too.
os.environ["HF_HUB_OFFLINE"] = "1"


envvars:
    "HF_HUB_OFFLINE",


# Planning makes millions of objects that all live to its end: looking for garbage among them is a tenth of its time.
gc.set_threshold(200_000, 20, 20)

try:
    STUDY = configuration.parse(config)
except GenviewError as error:
    raise WorkflowError(str(error)) from None

RESULTS = f"{STUDY.results}/{STUDY.study}"
DERIVED = STUDY.derived()
LOGS = f"{RESULTS}/logs"
COSTS = f"{RESULTS}/costs"
SHARDS = shard_names(STUDY.dataset.shards)

# Stages that would take longer to start than to work through one of a thousand shards take neighbouring ones at once.
GROUPS = group_names(STUDY.dataset.shards)


include: "resources.smk"


# What of the data set tells where the images are; its other settings have done their work at ingestion.
IMAGES = STUDY.dataset.model_dump(mode="json", include={"source", "path", "image_root"})


def written(write, *arguments):
    """What a function returns that reads or writes files; where it cannot, the plan ends with a sentence."""
    try:
        return write(*arguments)
    # Of what an input function raises Snakemake prints a traceback.
    except GenviewError as error:
        sys.exit(f"genview: {error}")
    except OSError as error:
        sys.exit(f"genview: {error.filename}: {error.strerror}")


def held(name, files):
    """A record of what files of the user hold, in their place as inputs: copied or touched, they re-run nothing."""
    remembered = Path(RESULTS) / "settings" / "files" / f"{name}.json"
    return record("files", [name], written(fingerprint.of, files, remembered))


def collection():
    """What the user's collection holds, as far as it decides what is ingested."""
    dataset = STUDY.dataset
    try:
        files = (
            fingerprint.collection(dataset.path, dataset.source, dataset.watch)
            if dataset.path
            else {}
        )
    except GenviewError:  # a folder that cannot be read: the ingestion says so
        files = {}
    if dataset.exclude and Path(dataset.exclude).is_file():
        files["exclude"] = Path(dataset.exclude)
    # A file that is not there is left to the ingestion, which says what it looked for.
    return held("collection", files) if files else []


def given(name, path):
    """The same of a table that stands in for a stage; what is not there is left to Snakemake to miss."""
    if not path:
        return []
    return held(name, {"given": Path(path)}) if Path(path).is_file() else path


def record(kind, names, content):
    """The file that holds settings, code or what files hold, named by its digest: an input that stands for them."""
    return written(provenance.record, Path(RESULTS).joinpath(kind, *names), content)


# What each source file says; to read all of them anew takes a second.
CODE = provenance.Code(Path(RESULTS) / "code" / provenance.MEANINGS)


def standing(rule_name, kind, record_of):
    """The record that a rule's artifact takes as its input: its own where it was made with the same, else a younger."""

    @of_every_shard
    def of_wildcards(wildcards):
        artifact = workflow.get_rule(rule_name).output[0].apply_wildcards(wildcards)
        return made.record_for(artifact, kind, record_of(wildcards))

    return of_wildcards


def code(rule_name, *modules, files=()):
    """The file that stands for the code of a rule: its script, all that this imports, modules found at run time, files.

    One input instead of some forty. Comments, docstrings and layout are not code.
    """

    @functools.cache
    def path():
        described = workflow.get_rule(rule_name)
        script = described.script
        starts = [str(Path(described.snakefile).parent / script)] if script else []
        found = CODE.files(*starts, *modules, *map(str, map(home.file, files)))
        CODE.keep()
        folder = Path(RESULTS) / "code" / rule_name
        written(accept.write_starts, folder, [*starts, *modules])
        return record("code", [rule_name], found)

    return standing(rule_name, "code", lambda wildcards: path())


def recorded(rule_name, chosen=None, **blocks):
    """The file with a rule's settings: blocks of the configuration, or what a function of the wildcards chooses.

    An input instead of `params`, of which Snakemake keeps a note only if it lives to see the job end: a job of the
    cluster whose workflow was killed would pass for one with the settings of the next start. Settings that change no
    result (`RuntimeOnly`, and whatever stands under `runtime`) lie beside it and are not inputs.
    """
    known = {}

    def of_wildcards(wildcards):
        # All shards have the same: a study of thousands asks once.
        names = tuple(v for k, v in wildcards.items() if k not in ("shard", "group"))
        if names not in known:
            values = dict(chosen(wildcards) if chosen else blocks)
            only = {
                name: (
                    block.model_dump(mode="json")
                    if hasattr(block, "model_dump")
                    else block
                )
                for name, block in values.pop("runtime", {}).items()
            }
            path = record("settings", [rule_name, *names], fingerprint_of(values))
            written(stage.write_runtime, path, runtime_of(values) | only)
            known[names] = path
        return known[names]

    return standing(rule_name, "settings", of_wildcards)


def unless_own_changed(rule_name, file):
    """A file whose renewal is no reason to run, flagged so unless the job's own code or settings are new.

    Snakemake asks no job behind a renewed file for reasons of its own, also where `ancient` keeps it from running: with
    code and collection changed at once, the plan would leave it out.
    """

    def of_wildcards(wildcards):
        described = workflow.get_rule(rule_name)
        outputs = [
            Path(output.apply_wildcards(wildcards)) for output in described.output
        ]
        made_at = min(
            (path.stat().st_mtime for path in outputs if path.exists()), default=0
        )
        records = [
            Path(record(wildcards))
            for name, record in described.input.items()
            if name in stage.RECORDS and callable(record)
        ]
        changed = any(record.stat().st_mtime > made_at for record in records)
        return file if changed else ancient(file)

    return of_wildcards


def settings(**blocks):
    """What one job reads, by name: blocks of the configuration and plain values."""
    return blocks


def accepted():
    """The list of what the user accepted, where there is one."""
    ledger = Path(RESULTS) / made.ACCEPTED
    return str(ledger) if ledger.is_file() else []


wildcard_constraints:
    shard=r"\d+-of-\d+",
    group=r"\d+-of-\d+",
    encoder=r"[^/]+",
    view=r"[^/]+",
    run=r"[^/]+",
    model=r"[^/]+",
    dataset=r"[^/]+",


def measured():
    """The artifacts that the report shows, by stage; the study's configuration says which there are."""
    encoder = f"{RESULTS}/foreground/{STUDY.foreground.encoder}"
    evaluated = {
        "probes": STUDY.evaluation.probe.datasets,
        "zeroshot": STUDY.evaluation.zeroshot.datasets,
        "retrieval": STUDY.evaluation.retrieval.datasets,
        "finetune": STUDY.evaluation.finetune.datasets,
        "detection": STUDY.evaluation.detection.datasets,
        "saliency": STUDY.evaluation.saliency.datasets,
        "video": STUDY.evaluation.video.datasets,
    }
    masked = ("detection", "saliency", "video")
    labelled = [names for task, names in evaluated.items() if task not in masked]
    labelled.append(STUDY.evaluation.parts.datasets)
    tested = sorted({name for names in labelled for name in names})
    return {
        "data": [
            f"{RESULTS}/data/{name}"
            for name in ("manifest.parquet", "rejected.parquet", "images.tar")
        ],
        "foreground": [
            f"{encoder}/{name}"
            for name in (
                "pca.safetensors",
                "pca.json",
                "foreground_ratio.parquet",
                *(["token_cut.parquet"] if STUDY.foreground.second_opinion else []),
            )
        ],
        "scores": SCORES,
        "conditions": f"{RESULTS}/conditions/conditions.parquet",
        "views": [
            f"{RESULTS}/views/{view}/{shard}.{kind}"
            for view in STUDY.views
            for shard in SHARDS
            for kind in ("tar", "parquet")
        ],
        "audits": [f"{RESULTS}/views/{view}/quality.json" for view in STUDY.views],
        "runs": [f"{RESULTS}/runs/{run}/model" for run in STUDY.runs],
        **{
            task: [
                f"{RESULTS}/{task}/{evaluated}/{catalogue.file_name(name)}.json"
                for evaluated, has_text in STUDY.evaluated().items()
                if task in ("probes", "finetune", *masked) or has_text
                # A curve is of what is quick to measure.
                if task not in ("finetune", *masked) or evaluated not in DERIVED
                for name in names
            ]
            for task, names in evaluated.items()
        },
        "parts": [
            f"{RESULTS}/probes/{evaluated}/{catalogue.file_name(name)}.{part}.json"
            for evaluated in STUDY.evaluated()
            if evaluated not in DERIVED
            for name in STUDY.evaluation.parts.datasets
            for part in STUDY.evaluation.parts.parts
        ],
        "mmvp": [
            f"{RESULTS}/mmvp/{evaluated}.json"
            for evaluated, has_text in STUDY.evaluated().items()
            if STUDY.evaluation.mmvp and has_text and evaluated not in DERIVED
        ],
        "duplicates": [
            f"{RESULTS}/evaluation/duplicates/{catalogue.file_name(name)}.json"
            for name in tested
            if STUDY.evaluation.duplicates.enabled
        ],
    }
