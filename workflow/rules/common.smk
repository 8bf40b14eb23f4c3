import functools
import gc
import os
import sys
from pathlib import Path

from snakemake.cli import get_argument_parser
from snakemake.io import strip_wildcard_constraints

from genview import provenance, targets
from genview.config import load as configuration
from genview.errors import GenviewError
from genview.evaluation import catalogue

# Planning makes millions of objects that all live to its end: looking for garbage among them is a tenth of its time.
gc.set_threshold(200_000, 20, 20)

try:
    STUDY = configuration.parse(config)
except GenviewError as error:
    raise WorkflowError(str(error)) from None

RESULTS = f"{STUDY.results}/{STUDY.study}"
LOGS = f"{RESULTS}/logs"
COSTS = f"{RESULTS}/costs"
SHARDS = [f"{shard}-of-{STUDY.dataset.shards}" for shard in range(STUDY.dataset.shards)]

# Stages that would take longer to start than to work through one of a thousand shards take neighbouring ones at once.
GROUP_COUNT = min(STUDY.dataset.shards, 100)
GROUPS = [f"{group}-of-{GROUP_COUNT}" for group in range(GROUP_COUNT)]


include: "resources.smk"


# What of the data set tells where the images are; its other settings have done their work at ingestion.
IMAGES = STUDY.dataset.model_dump(mode="json", include={"source", "path", "image_root"})


def collection():
    """Files of the user's collection whose change ingests it anew; images in folders are not watched one by one."""
    dataset = STUDY.dataset
    files = [dataset.exclude] if dataset.exclude else []
    if dataset.path:
        path = Path(dataset.path)
        if dataset.source == "huggingface":
            files.append(path / "state.json")
        elif dataset.source == "webdataset" and path.is_dir():
            files.extend(sorted(path.rglob("*.tar")))
        elif dataset.source in ("table", "webdataset"):
            files.append(path)
    # A file that is not there is left to the ingestion, which says what it looked for.
    return [str(file) for file in files if Path(file).is_file()]


def code(*modules, script=None):
    """The file that stands for a rule's script, these modules and all they import: one input instead of some forty."""
    scripts = [f"workflow/scripts/{script}.py"] if script else []
    name = script or "+".join(modules)
    try:
        return provenance.code_record(f"{RESULTS}/code/{name}.json", modules, scripts)
    except (GenviewError, OSError) as error:
        raise WorkflowError(str(error)) from None


def recorded(rule_name, chosen=None, **blocks):
    """The file with a rule's settings: blocks of the configuration, or what a function of the wildcards chooses.

    An input instead of `params`, of which Snakemake keeps a note only if it lives to see the job end: a job of the
    cluster whose workflow was killed would pass for one with the settings of the next start.
    """

    def record(values, *names):
        folder = "/".join([RESULTS, "settings", rule_name, *names])
        try:
            return provenance.settings_record(folder, values)
        except GenviewError as error:
            raise WorkflowError(str(error)) from None

    if chosen is None:
        return record(settings(**blocks))
    # All shards have the same.
    return lambda wildcards: record(
        chosen(wildcards),
        *[name for key, name in wildcards.items() if key not in ("shard", "group")],
    )


def settings(**blocks):
    """The blocks of the configuration that are read, as plain values."""
    return {
        name: block.model_dump(mode="json") if hasattr(block, "model_dump") else block
        for name, block in blocks.items()
    }


def check_before_start(dag):
    """Stop, before the first job, with a list of everything that would stop the stages that are to run."""
    from genview import cluster, preflight

    if dag.workflow.touch:  # --touch runs nothing
        return
    stages = {Path(job.rule.snakefile).stem for job in dag.needrun_jobs()}
    try:
        cluster.refuse_doubles(Path.cwd(), RESULTS)
        preflight.require(STUDY, stages, elsewhere=not dag.workflow.local_exec)
    except GenviewError as error:
        raise WorkflowError(str(error)) from None


def check_targets(rules):
    """Stop if the command line asks for a path or a stage that the study does not have, and say what there is.

    Snakemake itself would say that no rule makes the file. What was asked for is not yet known to the workflow when
    the rules are read, so it is taken from the command line, with Snakemake's own parser.
    """
    if (
        Path(sys.argv[0]).name != "snakemake"
        and Path(sys.argv[0]).parent.name != "snakemake"
    ):
        return
    asked = get_argument_parser().parse_known_args(sys.argv[1:])[0].targets
    asked = [target for target in asked if not Path(target).exists()]
    if not asked:
        return
    names = {
        name
        for block in ("probe", "zeroshot", "retrieval")
        for name in getattr(STUDY.evaluation, block).datasets
    }
    values = {
        "study": [STUDY.study],
        "encoder": STUDY.encoders,
        "view": STUDY.views,
        "run": STUDY.runs,
        "shard": SHARDS,
        "group": GROUPS,
        "dataset": sorted({*catalogue.ENTRIES, *STUDY.evaluation.datasets, *names}),
        "part": ["judge", "clip", "autoencoder", "unet"],
    }
    stages = [rule.name for rule in rules if not rule.has_wildcards()]
    in_study = f"{STUDY.results}/{{study}}/"
    files = [
        strip_wildcard_constraints(file).replace(f"{RESULTS}/", in_study, 1)
        for rule in rules
        for file in rule.output
    ]
    wrong = [
        why
        for target in asked
        if (why := targets.explain(os.path.normpath(target), [*stages, *files], values))
    ]
    if wrong:
        raise WorkflowError("\n".join(wrong))


def encoder_settings(wildcards):
    """The settings of the encoder that a path names, and where the images are."""
    return settings(
        encoder=STUDY.encoders[wildcards.encoder], dataset=IMAGES, study=STUDY.study
    )


def sample_settings(wildcards):
    """As above, with what decides the sample."""
    return {
        **encoder_settings(wildcards),
        "sample": STUDY.pca.sample,
        "seed": STUDY.seed,
    }


def component_settings(wildcards):
    """As above, with a given vector. The tokens are dropped, so what made them is remembered here as well."""
    return {**sample_settings(wildcards), "vector": STUDY.pca.vector}


def view_scores(wildcards):
    """The foreground pass, whose image embeddings generation uses; text alone needs none."""
    if STUDY.views[wildcards.view].mode == "txt":
        return []
    return f"{RESULTS}/foreground/{STUDY.foreground.encoder}/scores/{wildcards.shard}.parquet"


@functools.cache
def shipped_weights(model):
    """Digest of a shipped model's weights, so that new ones re-run what they make; others are pinned by sha256."""
    folder = provenance.PACKAGE / "models" / model
    return provenance.combined_file_digest(sorted(folder.rglob("*.safetensors")))


def view_settings(wildcards):
    """Settings of a view set; what chance draws from counts only where chance draws."""
    view = STUDY.views[wildcards.view]
    by_chance = {}
    if view.mode != "txt" and view.noise_level == "random":
        by_chance["levels"] = STUDY.noise_level.levels
    if view.guidance_scale == "random":
        by_chance["scales"] = sorted(set(STUDY.guidance.scales))
    # The small text-to-image model is made of the same weights.
    small = view.model is None or view.model.startswith("small/")
    weights = {"weights": shipped_weights("small/unclip")} if small else {}
    return settings(
        view=view, seed=STUDY.seed, study=STUDY.study, **by_chance, **weights
    )


def audit_settings(wildcards):
    """Settings of the audit: its block, and the encoders that it names or, without names, the foreground's."""
    names = STUDY.audit.encoders or (STUDY.foreground.encoder,)
    encoders = {name: STUDY.encoders[name].model_dump(mode="json") for name in names}
    return settings(
        audit=STUDY.audit, encoders=encoders, seed=STUDY.seed, study=STUDY.study
    )


wildcard_constraints:
    shard=r"\d+-of-\d+",
    group=r"\d+-of-\d+",
    encoder=r"[^/]+",
    view=r"[^/]+",
    run=r"[^/]+",
    dataset=r"[^/]+",


def measured():
    """The artifacts that the report shows, by stage; the study's configuration says which there are."""
    encoder = f"{RESULTS}/foreground/{STUDY.foreground.encoder}"
    evaluated = {
        "probes": STUDY.evaluation.probe.datasets,
        "zeroshot": STUDY.evaluation.zeroshot.datasets,
        "retrieval": STUDY.evaluation.retrieval.datasets,
    }
    tested = sorted({name for names in evaluated.values() for name in names})
    return {
        "data": [
            f"{RESULTS}/data/{name}"
            for name in ("manifest.parquet", "rejected.parquet", "images.tar")
        ],
        "foreground": [
            f"{encoder}/{name}"
            for name in ("pca.safetensors", "pca.json", "foreground_ratio.parquet")
        ],
        "scores": [f"{encoder}/scores/{shard}.parquet" for shard in SHARDS],
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
                f"{RESULTS}/{task}/{run}/{name}.json"
                for run, block in STUDY.runs.items()
                if task == "probes" or block.uses_text
                for name in names
            ]
            for task, names in evaluated.items()
        },
        "duplicates": [
            f"{RESULTS}/evaluation/duplicates/{name}.json"
            for name in tested
            if STUDY.evaluation.duplicates.enabled
        ],
    }
