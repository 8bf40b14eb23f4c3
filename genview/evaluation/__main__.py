"""Evaluate a model on a dataset: linear probe and k-NN, zero-shot classification, or retrieval.

    python -m genview.evaluation probe --config mine.yaml --model model --dataset digits --to evaluation

Writes <dataset>.json, and the outcome of each image to <dataset>.parquet.
"""

import argparse
from pathlib import Path

from genview import standalone
from genview.config.study import Study
from genview.evaluation import catalogue, features, probe, retrieval, zeroshot
from genview.evaluation.datasets import Request


def work(study: Study, options: argparse.Namespace) -> None:
    """Write the result, <dataset>.json, and each image's outcome, <dataset>.parquet."""
    evaluation = study.evaluation
    block = evaluation.datasets.get(options.dataset)
    request = Request(
        options.dataset,
        block,
        root=evaluation.root,
        download=evaluation.download,
        seed=study.seed,
        source=study.dataset if block and block.kind == "own_labels" else None,
        manifest=options.manifest,
    )
    to, stamp = options.to / catalogue.file_name(options.dataset), standalone.stamp("evaluation", study)
    result, images = to.with_name(f"{to.name}.json"), to.with_name(f"{to.name}.parquet")
    reading = evaluation.features.on(1 + standalone.loaders(study.cores.probe_features))
    model, workers = options.model, reading.loaders
    match options.task:
        case "probe":
            encoded = to.with_name(f"{to.name}.safetensors")
            features.run(request, reading, model=model, output=encoded, stamp=stamp)
            probe.run(evaluation.probe, features=encoded, seed=study.seed, output=result, images=images, stamp=stamp)
        case "zeroshot":
            batch_size = evaluation.zeroshot.batch_size
            zeroshot.run(
                request, model=model, batch_size=batch_size, workers=workers, output=result, images=images, stamp=stamp
            )
        case "retrieval":
            settings = evaluation.retrieval
            retrieval.run(
                request,
                model=model,
                recall_at=settings.recall_at,
                batch_size=settings.batch_size,
                workers=workers,
                output=result,
                images=images,
                stamp=stamp,
            )


if __name__ == "__main__":
    parser = standalone.parser("evaluation", __doc__, manifest=False)
    parser.add_argument("task", choices=("probe", "zeroshot", "retrieval"))
    parser.add_argument("--model", required=True, type=Path, metavar="FOLDER", help="a run's model or any other")
    parser.add_argument("--dataset", required=True, metavar="NAME", help="of the configuration or of the catalogue")
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="manifest.parquet, for a dataset of own labels")
    standalone.run(parser.parse_args(), work)
