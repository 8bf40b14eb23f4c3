"""The shipped models: if they do not load, agree and know the scenes, the default study shows nothing."""

import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableUnCLIPImg2ImgPipeline
from PIL import Image
from torch.nn import functional
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from genview.data import scenes
from genview.errors import GenviewError
from genview.foreground import pca
from genview.models import judge as judges
from genview.models import load
from recipes.small_models.__main__ import main as recipe
from recipes.small_models.collection import UNSEEN_SEED, collection, unit_range

SMALL = Path(load.__file__).parent / "small"


@pytest.fixture(autouse=True)
def subnormal_numbers():
    """The recipe has the whole process round them to zero; tests that follow want them back."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="module")
def unseen():
    return collection(300, UNSEEN_SEED + 1)


@pytest.fixture(scope="module")
def encoder():
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{load.small_directory('small/clip')}")
    return model.eval(), preprocess, open_clip.get_tokenizer(f"local-dir:{load.small_directory('small/clip')}")


@pytest.fixture(scope="module")
def unclip():
    pipeline = StableUnCLIPImg2ImgPipeline.from_pretrained(
        load.small_directory("small/unclip"), dtype=torch.float32, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("name", ["clip", "unclip", "judge"])
def test_each_shipped_model_has_a_card_with_a_licence_and_its_figures(name):
    text = (SMALL / name / "README.md").read_text()
    assert "license: apache-2.0" in text
    assert "standard error" in text


def test_the_family_stays_small_enough_for_a_package():
    assert sum(path.stat().st_size for path in SMALL.rglob("*") if path.is_file()) <= 12e6


def test_transformers_and_open_clip_give_the_same_embeddings(encoder, unseen):
    model, preprocess, words = encoder
    folder = load.small_directory("small/unclip")
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in unseen.images[:16]]
    pixels = torch.stack([preprocess(picture) for picture in pictures])
    theirs = CLIPImageProcessor.from_pretrained(folder / "feature_extractor")(pictures, return_tensors="pt")
    assert torch.allclose(pixels, theirs.pixel_values, atol=1e-6)
    vision = CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder", dtype=torch.float32)
    text = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    captions = [*unseen.captions[:16], "", "A photograph of an owl, 1984"]
    ids = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    assert torch.equal(ids, words(captions))
    with torch.no_grad():
        assert torch.allclose(model.encode_image(pixels), vision(pixels).image_embeds, atol=1e-4)
        projected = text(ids).pooler_output @ model.text_projection
        assert torch.allclose(model.encode_text(words(captions)), projected, atol=1e-4)


def test_each_word_of_the_scenes_is_one_token(encoder):
    ends = encoder[2]([*scenes.vocabulary()])
    assert (ends[:, 2] == ends.max()).all()


def test_zero_shot_knows_class_and_colour(encoder, unseen):
    model, _, words = encoder
    with torch.no_grad():
        images = functional.normalize(model.encode_image(unit_range(unseen.images)), dim=-1)
        classes = functional.normalize(model.encode_text(words(scenes.class_prompts())), dim=-1)
        colours = torch.stack([model.encode_text(words(names)).mean(0) for names in scenes.colour_prompts()])
    assert ((images @ classes.T).argmax(1) == unseen.column("class_index")).float().mean() >= 0.93
    assert ((images @ colours.T).argmax(1) == unseen.column("colour_index")).float().mean() >= 0.97


def test_first_component_is_the_foreground_and_orients_itself(encoder, unseen):
    model, _, _ = encoder
    model.visual.output_tokens = True
    with torch.no_grad():
        tokens = model.visual(unit_range(unseen.images))[1].numpy()
    model.visual.output_tokens = False
    truth = unseen.patch_masks.numpy()
    for start in range(0, 300, 50):
        part = tokens[start : start + 50]
        scores = part @ pca.fit([part]).component
        scores = scores * pca.orient(scores, (8, 8)).sign
        assert np.corrcoef(scores.ravel(), truth[start : start + 50].ravel())[0, 1] >= 0.95


def test_judge_and_autoencoder_keep_what_the_scene_shows(unclip, unseen):
    judge = judges.load(load.small_directory("small/judge"))
    with torch.no_grad():
        restored = unclip.vae.decode(unclip.vae.encode(unit_range(unseen.images[:100])).latent_dist.mode()).sample
    restored = ((restored.clamp(-1, 1) + 1) * 127.5).round().byte()
    for images, limit in ((unseen.images[:100], 0.96), (restored, 0.92)):
        seen = judge.classify(images)
        assert (seen["class"] == unseen.column("class_index")[:100]).float().mean() >= limit
        assert (seen["colour"] == unseen.column("colour_index")[:100]).float().mean() >= 0.97


def test_variations_keep_the_class_of_their_original(unclip, unseen):
    with torch.no_grad():
        embeddings = unclip.image_encoder(unit_range(unseen.images[:40])).image_embeds
    views = unclip(
        image_embeds=embeddings,
        prompt=[""] * 40,
        noise_level=0,
        guidance_scale=2.5,
        num_inference_steps=8,
        generator=[torch.Generator().manual_seed(number) for number in range(40)],
        output_type="pt",
    ).images
    seen = judges.load(load.small_directory("small/judge")).classify((views * 255).round().byte())
    assert (seen["class"] == unseen.column("class_index")[:40]).float().mean() >= 0.7
    assert (seen["colour"] == unseen.column("colour_index")[:40]).float().mean() >= 0.85


def test_text_pipeline_is_the_image_pipeline_without_an_image(unclip):
    folder = load.small_directory("small/text2image")
    assert load.small_directory("small/text2image") == folder
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, safety_checker=None
    )
    random = torch.Generator().manual_seed(0)
    latents, states = torch.randn(2, 4, 16, 16, generator=random), torch.randn(2, 24, 64, generator=random)
    with torch.no_grad():
        text = pipeline.unet(latents, 700, states).sample
        image = unclip.unet(latents, 700, states, class_labels=torch.zeros(2, 128)).sample
    assert torch.allclose(text, image, atol=1e-5)


def test_names_are_resolved_and_wrong_ones_explained(tmp_path):
    assert load.resolve("small/clip") == SMALL / "clip"
    assert load.resolve(str(tmp_path)) == tmp_path
    assert load.resolve("laion/CLIP-ViT-H-14") == "laion/CLIP-ViT-H-14"
    with pytest.raises(GenviewError, match="small/clap"):
        load.resolve("small/clap")
    with pytest.raises(GenviewError, match="no such file"):
        load.sha256(tmp_path / "missing")
    with pytest.raises(GenviewError, match="no judge"):
        judges.load(tmp_path)


def test_digest_of_a_directory_changes_with_any_file(tmp_path):
    copy = shutil.copytree(SMALL / "judge", tmp_path / "judge")
    assert load.sha256(copy) == load.sha256(SMALL / "judge")
    settings = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(settings))
    assert load.sha256(copy) != load.sha256(SMALL / "judge")


@pytest.mark.slow
def test_recipe_makes_a_family_that_loads_and_goes_on_where_it_was_stopped(tmp_path, capsys):
    short = ["--output", str(tmp_path), "--scenes", "200", "--device", "cpu"]
    assert recipe(["judge", *short, "--steps", "40", "--minutes", "0.01"]) == 1
    assert "The same command continues" in capsys.readouterr().err
    assert recipe(["judge", *short, "--steps", "40"]) == 0
    assert recipe(["judge", *short, "--steps", "30"]) == 1
    assert "other settings" in capsys.readouterr().err
    assert recipe(["unet", *short]) == 1
    assert "not trained yet" in capsys.readouterr().err
    for part in ("clip", "autoencoder", "unet"):
        assert recipe([part, *short, "--steps", "12"]) == 0
    assert recipe(["export", *short]) == 0
    family = tmp_path / "small"
    StableUnCLIPImg2ImgPipeline.from_pretrained(family / "unclip", dtype=torch.float32)
    open_clip.create_model_and_transforms(f"local-dir:{family / 'clip'}")
    assert judges.load(family / "judge").heads["class"] == list(scenes.CLASSES)


@pytest.mark.slow
def test_training_that_was_stopped_ends_in_the_same_weights(tmp_path):
    def train(folder, *more):
        return recipe(["judge", "--output", str(folder), "--scenes", "100", "--steps", "30", "--device", "cpu", *more])

    assert train(tmp_path / "whole") == 0
    while train(tmp_path / "parts", "--minutes", "0.01") == 1:
        pass
    first, second = (judges_weights(tmp_path / name) for name in ("whole", "parts"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def judges_weights(output):
    from safetensors.torch import load_file

    return load_file(output / "parts" / "judge.safetensors")
