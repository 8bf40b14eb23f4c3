EVALUATION = STUDY.evaluation


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
    block = EVALUATION.datasets.get(wildcards.dataset)
    own = block is not None and block.kind == "own_labels"
    return {
        "dataset": wildcards.dataset,
        "block": block.model_dump(mode="json") if block else None,
        "root": EVALUATION.root,
        "download": EVALUATION.download,
        "source": STUDY.dataset.model_dump(mode="json") if own else None,
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
        "workers": EVALUATION.features.workers,
    }


def retrieval_settings(wildcards):
    """As above, for retrieval."""
    return {
        **dataset_settings(wildcards),
        "recall_at": EVALUATION.retrieval.recall_at,
        "batch_size": EVALUATION.retrieval.batch_size,
        "workers": EVALUATION.features.workers,
    }


def duplicates_settings(wildcards):
    """As above, with the encoder whose embeddings are compared."""
    return {
        **dataset_settings(wildcards),
        **settings(
            duplicates=EVALUATION.duplicates.model_dump(
                mode="json", exclude={"enabled"}
            ),
            encoder=STUDY.encoders[STUDY.foreground.encoder],
            pretraining=IMAGES,
        ),
    }


# Which datasets are probed decides what runs, not how: it must not re-run the others.
PROBE = EVALUATION.probe.model_dump(mode="json", exclude={"datasets"})
