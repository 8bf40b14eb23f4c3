# What the rules of generation.smk are given, by view set.

import functools


@of_every_shard
def view_scores(wildcards):
    """The foreground pass, whose image embeddings generation uses; text alone needs none."""
    if STUDY.views[wildcards.view].mode == "txt":
        return []
    return f"{RESULTS}/foreground/{STUDY.foreground.encoder}/scores/{group_of(wildcards.shard)}.parquet"


@functools.cache
def shipped_weights(model):
    """Digest of a shipped model's weights, so that new ones re-run what they make; others are pinned by sha256."""
    folder = provenance.PACKAGE / "models" / model
    return provenance.combined_file_digest(sorted(folder.rglob("*.safetensors")))


def view_settings(wildcards):
    """Settings of a view set."""
    view = STUDY.views[wildcards.view]
    # The small text-to-image model is made of the same weights.
    small = view.model is None or view.model.startswith("small/")
    weights = {"weights": shipped_weights("small/unclip")} if small else {}
    return settings(
        view=view,
        seed=STUDY.seed,
        study=STUDY.study,
        **weights,
        # Where the originals lie and how many may fail change no image.
        runtime={"dataset": STUDY.dataset},
    )
