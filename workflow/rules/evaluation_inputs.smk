import re

EVALUATION = STUDY.evaluation


# Paths hold no second slash in a dataset's name: wds/mine is wds_mine there.
TASKS = ("probe", "parts", "finetune", "zeroshot", "retrieval")
ASKED = {
    catalogue.file_name(name): name
    for task in TASKS
    for name in getattr(EVALUATION, task).datasets
}


def named(wildcards):
    """The dataset that a path names."""
    return ASKED.get(wildcards.dataset, wildcards.dataset)


def first_purpose(name):
    """What a dataset is used for first: which of its images are test images may depend on it."""
    asked = [task for task in TASKS if name in getattr(EVALUATION, task).datasets]
    return re.sub("finetune|parts", "probe", asked[0]) if asked else "probe"


def evaluated_model(wildcards):
    """What is evaluated under a name: a run's model, one that follows from it, or an encoder of the configuration."""
    name = wildcards.model
    if name in STUDY.runs or name in DERIVED:
        return f"{RESULTS}/runs/{name}/model"
    if encoder := STUDY.encoder(name):
        return record(
            "settings",
            ["evaluated_encoder", name],
            fingerprint_of(settings(encoder=encoder)),
        )
    known = sorted({*STUDY.runs, *STUDY.encoders, *STUDY.evaluated()})
    raise WorkflowError(
        f"{name}: neither a run nor an encoder of the configuration; there are {', '.join(known)}"
    )


def own_images(wildcards):
    """The study's own images, where a dataset is made of them."""
    block = EVALUATION.datasets.get(wildcards.dataset)
    if block is None or block.kind != "own_labels":
        return {}
    return {
        "manifest": MANIFEST,
        "images": PACKED,
    }


def dataset_settings(wildcards):
    """Where a dataset is and how it is divided; nothing of how it is used."""
    block = EVALUATION.datasets.get(named(wildcards))
    own = block is not None and block.kind == "own_labels"
    return {
        "dataset": named(wildcards),
        "block": block,
        "root": EVALUATION.root,
        "download": EVALUATION.download,
        "source": STUDY.dataset if own else None,
        "seed": STUDY.seed,
        "study": STUDY.study,
    }


def feature_settings(wildcards):
    """As above, and how the frozen encoder reads it."""
    return {**dataset_settings(wildcards), **settings(features=EVALUATION.features)}


def published_settings(wildcards):
    """As above, for the protocol that encodes anew in each epoch."""
    return {**feature_settings(wildcards), **settings(probe=PROBE)}


def zeroshot_settings(wildcards):
    """As above, for zero-shot classification."""
    return {
        **dataset_settings(wildcards),
        "batch_size": EVALUATION.zeroshot.batch_size,
        "runtime": {"workers": EVALUATION.features.workers},
    }


def retrieval_settings(wildcards):
    """As above, for retrieval."""
    return {
        **dataset_settings(wildcards),
        "recall_at": EVALUATION.retrieval.recall_at,
        "batch_size": EVALUATION.retrieval.batch_size,
        "runtime": {"workers": EVALUATION.features.workers},
    }


def duplicates_settings(wildcards):
    """As above, with the encoder whose embeddings are compared."""
    return {
        **dataset_settings(wildcards),
        "purpose": first_purpose(named(wildcards)),
        **settings(
            duplicates=EVALUATION.duplicates,
            encoder=STUDY.encoders[STUDY.foreground.encoder],
            pretraining=IMAGES,
        ),
    }


# Which datasets are probed decides what runs, not how: it must not re-run the others.
PROBE = EVALUATION.probe


def finetune_settings(wildcards):
    """Where the dataset is, how images are read, and the protocol; which datasets there are re-runs no other."""
    return {
        **dataset_settings(wildcards),
        **settings(
            features=EVALUATION.features,
            finetune=EVALUATION.finetune,
        ),
    }


def parts_settings(wildcards):
    """Where the dataset is, how images are read, and the protocol of the probes of parts."""
    return {
        **dataset_settings(wildcards),
        **settings(
            features=EVALUATION.features,
            parts=EVALUATION.parts,
        ),
    }


DETECTION = EVALUATION.detection


def detection_settings(wildcards):
    """The detector and its training; which datasets there are re-runs no other."""
    return settings(
        dataset=wildcards.dataset,
        folder=DETECTION.datasets[wildcards.dataset],
        features=EVALUATION.features,
        detection=DETECTION,
        seed=STUDY.seed,
        study=STUDY.study,
    )


def saliency_settings(wildcards):
    """What is cut, and the seed of what is drawn; which datasets there are re-runs no other."""
    return dense_settings(wildcards, saliency=EVALUATION.saliency)


def video_settings(wildcards):
    """The protocol, and the seed of what is drawn."""
    return dense_settings(wildcards, video=EVALUATION.video)


def dense_settings(wildcards, **block):
    """As above, of either test of patch tokens."""
    (protocol,) = block.values()
    return settings(
        dataset=wildcards.dataset,
        folder=protocol.datasets[wildcards.dataset],
        precision=EVALUATION.features.precision,
        seed=STUDY.seed,
        study=STUDY.study,
        **block,
    )


def mmvp_settings(wildcards):
    """How pairs are scored, and the seed of what is drawn."""
    return settings(
        mmvp=EVALUATION.mmvp or evaluation.Mmvp(),
        precision=EVALUATION.features.precision,
        seed=STUDY.seed,
        study=STUDY.study,
    )
