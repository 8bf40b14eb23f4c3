"""clip_benchmark's own command line with our models and datasets.

    python -m genview.evaluation.benchmark export --config config/config.yaml --dataset scene_class --output scenes
    python -m genview.evaluation.benchmark eval --model_type genview --model results/default/runs/all_views/model \
        --pretrained "" --dataset wds/scenes --dataset_root scenes --output result.json

``eval`` and ``build`` are clip_benchmark's, with a model type ``genview`` that checks a run's weights as the workflow
does. Without us, ``clip_benchmark eval --model local-dir:<folder> --pretrained ""`` loads the same model.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from clip_benchmark import cli, models
from clip_benchmark.webdataset_builder import PIL_to_bytes, convert_dataset, convert_retrieval_dataset

from genview.config.load import load as load_configuration
from genview.errors import GenviewError
from genview.evaluation import frozen, prompts
from genview.evaluation.datasets import Request
from genview.evaluation.retrieval import Captioned, captioned_part
from genview.evaluation.zeroshot import Labelled

MODEL_TYPE = "genview"


def load_model(
    model_name: str, pretrained: str = "", cache_dir: str | None = None, device: str | torch.device = "cpu"
) -> tuple[torch.nn.Module, Any, Any]:
    """clip_benchmark's interface: model, transform and tokenizer of a run's model directory."""
    encoder = frozen.load(model_name, layer="embedding", device=device, text=True)
    return encoder.model, encoder.transform, encoder.tokenizer


def register() -> None:
    """Make the model type known to clip_benchmark."""
    models.TYPE2FUNC[MODEL_TYPE] = load_model
    if MODEL_TYPE not in models.MODEL_TYPES:
        models.MODEL_TYPES.append(MODEL_TYPE)


def export(request: Request, folder: str | Path, *, retrieval: bool = False) -> None:
    """Write the test part of a dataset as clip_benchmark's WebDataset folder (PNG, class names, templates).

    Raises:
        GenviewError: the dataset is missing, or has no captions for retrieval.
    """
    dataset = request.load("retrieval" if retrieval else "zeroshot")
    to_bytes = PIL_to_bytes("png")
    options = {"transform": None, "image_format": "png", "verbose": False}
    if retrieval:
        captioned = Captioned(captioned_part(dataset.test, request.name), to_bytes)
        convert_retrieval_dataset(captioned, "test", str(folder), **options)
        return
    items = Labelled(dataset.test, to_bytes, prompts.class_names(dataset))
    items.templates = prompts.templates(dataset)
    convert_dataset(items, "test", str(folder), **options)


def main(words: list[str] | None = None) -> int:
    """``export``, or clip_benchmark's ``eval`` and ``build``."""
    words = sys.argv[1:] if words is None else words
    register()
    if words[:1] != ["export"]:
        sys.argv = ["clip_benchmark", *words]
        return cli.main() or 0
    parser = argparse.ArgumentParser(prog="python -m genview.evaluation.benchmark export")
    parser.add_argument("--config", default="config/config.yaml")
    parser.add_argument("--dataset", required=True, help="a dataset of the table or of the configuration")
    parser.add_argument("--output", required=True, help="folder")
    parser.add_argument("--retrieval", action="store_true", help="captions instead of labels")
    arguments = parser.parse_args(words[1:])
    try:
        study = load_configuration(arguments.config)
        evaluation = study.evaluation
        request = Request(
            arguments.dataset,
            evaluation.datasets.get(arguments.dataset),
            root=evaluation.root,
            download=evaluation.download,
            seed=study.seed,
            source=study.dataset,
            manifest=Path(study.results) / study.study / "data/manifest.parquet",
        )
        export(request, arguments.output, retrieval=arguments.retrieval)
    except GenviewError as error:
        print(f"genview: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
