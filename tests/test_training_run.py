"""What a run leaves behind is all that anybody sees of it: a model that loads elsewhere, and its numbers."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
from accelerate.state import AcceleratorState
from lightly.loss import NTXentLoss
from training_study import assemble, study, weights

from genview import randomness
from genview.config.training import RunModel
from genview.data import scenes
from genview.data.reader import Reader
from genview.encoders import build, save
from genview.encoders.architecture import describe
from genview.errors import GenviewError
from genview.training import __main__ as command_line
from genview.training import assembly, schedule
from genview.training.data.samples import Order, loader
from genview.training.job import Job
from genview.training.loop import cached
from genview.training.loop.trainer import Trainer, train
from genview.training.losses import multi_positive_loss
from genview.training.methods.method import Step, sample_labels

FOUR = {"image_image": 1, "image_image_quality": 1, "image_text": 1, "image_text_quality": 1}
IMAGES = {"image_image": 1, "image_text": 0}
GROUP_NORM = {
    "embed_dim": 32,
    "vision_cfg": {"timm_model_name": "test_efficientnet_gn", "timm_pool": "avg", "image_size": 32},
    "text_cfg": {"context_length": 24, "hf_tokenizer_name": "small/clip", "width": 32, "heads": 2, "layers": 1},
}
AT = Step(0, 10, 5)
"""The first of ten steps."""


@pytest.fixture(autouse=True)
def _accelerate_starts_anew():
    """accelerate keeps one precision per process."""
    AcceleratorState._reset_state(True)


def lines(job):
    return [json.loads(line) for line in Path(job.metrics).read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Job, assembly.Assembly]:
    folder = tmp_path_factory.mktemp("finished")
    loss = {"early": {"image_image": 1, "image_text": 1}, "later": FOUR, "switch_epoch": 1}
    job = study(folder, count=24, method=loss)
    trainer = Trainer(job)
    trainer.train()
    return job, trainer


def test_a_process_computes_on_one_core(tmp_path):
    """More would fight for the job's cores with its other processes and with the loaders."""
    job = study(tmp_path, count=8, epochs=1, quality=False, method={})
    (tmp_path / "job.json").write_text(job.model_dump_json())
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert command_line.main(["--job", str(tmp_path / "job.json")]) == 0
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def some_images():
    return torch.stack(
        [torch.as_tensor(scenes.scene(index, seed=3).image).permute(2, 0, 1) / 127.5 - 1 for index in range(5)]
    )


@pytest.mark.parametrize("text", [False, True])
def test_a_pooled_transformer_s_image_tower_loads_in_timm_too(tmp_path, text):
    path = tmp_path / "vit.json"
    configuration = {**GROUP_NORM, "vision_cfg": {"timm_model_name": "test_vit", "timm_pool": "avg", "image_size": 160}}
    path.write_text(json.dumps(configuration))
    built = describe(RunModel(architecture=str(path)), text=text)
    tower = build.build(built, RunModel(), seed=1).eval()
    save.write(tmp_path / "model", tower, built, record={}, card="")
    again = timm.create_model(f"local-dir:{tmp_path}/model/timm", pretrained=True).eval()
    images = torch.rand(2, 3, 160, 160)
    with torch.no_grad():
        torch.testing.assert_close(again(images), tower.visual.trunk(images))


def test_the_exported_model_gives_the_same_embeddings_in_open_clip_and_timm(finished):
    job, trainer = finished
    trained = trainer.method.model.eval()
    exported, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{job.model}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{job.model}")
    tower = timm.create_model(f"local-dir:{job.model}/timm", pretrained=True).eval()
    images, captions = some_images(), ["a red circle", "a large blue star at the top left"]
    with torch.no_grad():
        torch.testing.assert_close(exported.eval().encode_image(images), trained.encode_image(images))
        torch.testing.assert_close(tower(images), trained.visual.trunk(images))
        ids = tokenizer(captions)
        assert torch.equal(ids, trainer.assembly.samples.tokenizer(captions))
        torch.testing.assert_close(exported.encode_text(ids), trained.encode_text(ids))
    assert exported.logit_scale.item() == pytest.approx(trained.logit_scale.item())
    from PIL import Image

    seen = preprocess(Image.fromarray(scenes.scene(0, seed=3).image))
    torch.testing.assert_close(seen, images[0])
    assert tower.pretrained_cfg["input_size"] == (3, 32, 32) and tuple(tower.pretrained_cfg["mean"]) == (0.5, 0.5, 0.5)
    trainer.method.train()


def test_each_term_is_logged_and_the_loss_is_their_weighted_sum(finished):
    job, _ = finished
    rows = lines(job)
    assert [row["step"] for row in rows] == list(range(1, 7))
    assert "image_image_quality_loss" not in rows[0] and "image_text_quality_loss" in rows[-1]
    for row in rows:
        assert row["loss"] == pytest.approx(
            sum(row[f"{name}_loss"] for name in FOUR if f"{name}_loss" in row), rel=1e-5
        )
    assert rows[0]["learning_rate"] == 0 and rows[-1]["epoch"] == 2
    assert not any("second" in name or "time" in name for row in rows for name in row)


def test_the_folder_says_what_the_model_is_made_of(finished):
    job, _ = finished
    record = json.loads((Path(job.model) / "run.json").read_text())
    assert (
        record["run"]["method"]["switch_epoch"] == 1
        and record["steps"] == 6
        and record["missing_views"] == {"drawn": 0}
    )
    assert set(record["data"]) >= {"manifest", "views drawn", "quality component", "quality features"}
    card = (Path(job.model) / "README.md").read_text()
    assert "test_resnet" in card and "24 originals" in card
    assert str(Path(job.model).parent) not in card + json.dumps(record)


def test_throughput_is_a_log_and_no_artifact(finished):
    job, _ = finished
    rows = [json.loads(line) for line in (Path(job.logs) / "throughput.jsonl").read_text().splitlines()]
    assert len(rows) == 6 and all(0 <= row["data_wait_share"] <= 1 and row["images_per_second"] > 0 for row in rows)
    assert list((Path(job.logs) / "tensorboard").iterdir())


def test_a_finished_run_is_not_trained_again(finished, tmp_path):
    job, _ = finished
    again = job.model_copy(update={"model": str(tmp_path / "model"), "metrics": str(tmp_path / "metrics.jsonl")})
    train(again)
    assert Path(again.metrics).read_bytes() == Path(job.metrics).read_bytes()
    for name, tensor in weights(job.model).items():
        assert torch.equal(tensor, weights(again.model)[name])


def test_quality_weights_of_a_run_are_those_of_the_public_function(finished):
    """The precomputed originals and captions give the weights that computing them at each step would."""
    from genview.encoders import look
    from genview.training import quality

    _, trainer = finished
    samples, scorer = trainer.assembly.samples, trainer.method.scorer
    batch = samples.collate([samples[(0, row)] for row in range(6)]).developed()
    tokens, embeddings = scorer(batch.views)
    labels = sample_labels(2, 6, torch.device("cpu"))
    encoder = look.load(trainer.job.quality.encoder)
    rows = samples.manifest.slice(0, 6).to_pylist()
    reader = Reader(Path(trainer.job.manifest).parent)
    originals = [reader.image(row["path"], row["offset"], row["length"]) for row in rows]
    real, _ = encoder.encode(torch.stack([encoder.preprocess(image) for image in originals]))
    captions = encoder.encode_text([samples.manifest["caption"][row].as_py() for row in range(6)])
    arguments = (scorer.component, labels, labels[:6])
    at_each_step = quality.image_text_weights(tokens, embeddings, real, captions, *arguments, gamma=2.0)
    precomputed = quality.image_text_weights_of_features(
        tokens, embeddings, batch.original_background, batch.caption_embedding, *arguments, gamma=2.0
    )
    torch.testing.assert_close(precomputed, at_each_step, rtol=2e-3, atol=1e-4)
    assert at_each_step[at_each_step > 0].std() > 1e-3


def test_the_quality_encoder_is_fed_its_own_normalisation_and_size(finished):
    _, trainer = finished
    scorer = trainer.method.scorer
    pixels = torch.rand(2, 3, 32, 32)
    mean, std = torch.tensor([0.4, 0.5, 0.6])[:, None, None], torch.tensor([0.2, 0.3, 0.4])[:, None, None]
    other = type(scorer)(scorer.encoder, scorer.component, mean.flatten(), std.flatten())
    own_mean = torch.tensor(scorer.encoder.mean)[:, None, None]
    own_std = torch.tensor(scorer.encoder.std)[:, None, None]
    torch.testing.assert_close(other.prepared((pixels - mean) / std), (pixels - own_mean) / own_std)
    assert other.prepared(torch.rand(1, 3, 48, 48)).shape == (1, 3, 32, 32)
    assert not scorer.encoder.model.training and not any(p.requires_grad for p in scorer.encoder.model.parameters())
    assert not any("scorer" in name for name in trainer.method.state_dict())


def test_only_what_the_coefficients_need_is_built(tmp_path):
    job = study(tmp_path, count=16, quality=False, method={"early": IMAGES})
    parts = assemble(job)
    assert not hasattr(parts.method.model, "token_embedding") and parts.samples.tokenizer is None
    text_alone = job.run.model_copy(
        update={"method": job.run.method.model_copy(update={"early": _coefficients(0, 0, 1, 0)})}
    )
    method = assemble(job.model_copy(update={"run": text_alone})).method
    assert method.head is None and hasattr(method.model, "token_embedding") and method.scorer is None


def _coefficients(*values):
    from genview.config.methods import Coefficients

    return Coefficients(**dict(zip(FOUR, values)))


@pytest.mark.parametrize(
    "values", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (0, 1, 0, 1), (0.5, 1.5, 2, 0.25)]
)
def test_every_pattern_of_coefficients_gives_its_weighted_sum_and_gradients(finished, values):
    job, trainer = finished
    run = job.run.model_copy(update={"method": job.run.method.model_copy(update={"later": _coefficients(*values)})})
    method = assembly.METHODS["genviewpp"](run, trainer.assembly.method.model, trainer.method.scorer)
    samples = trainer.assembly.samples
    batch = samples.collate([samples[(1, row)] for row in range(5)]).developed()
    terms, _ = method(batch, Step(5, 10, 5))
    assert set(terms) == {"loss", *(name for name, value in zip(FOUR, values) if value)}
    expected = sum(value * float(terms[name].detach()) for name, value in zip(FOUR, values) if value)
    assert float(terms["loss"].detach()) == pytest.approx(expected, rel=1e-5)
    terms["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)
    method.zero_grad()


def test_the_later_coefficients_hold_from_the_switch_epoch_on(finished):
    settings = finished[0].run.method
    chosen = [schedule.coefficients(settings, epoch) is settings.later for epoch in range(4)]
    assert chosen == [False, True, True, True]


def test_an_image_only_model_loads_and_says_that_its_text_tower_is_a_placeholder(tmp_path):
    job = study(tmp_path, count=16, quality=False, epochs=1, method={"early": IMAGES})
    trainer = Trainer(job)
    trainer.train()
    loaded, _, _ = open_clip.create_model_and_transforms(f"local-dir:{job.model}")
    images = some_images()
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval().encode_image(images), trainer.method.model.visual.trunk.eval()(images))
    assert "placeholder" in (Path(job.model) / "README.md").read_text()


def test_simclr_is_the_same_seam_and_equals_lightly_s_loss(tmp_path):
    job = study(tmp_path, count=24, method={"name": "simclr", "temperature": 0.2}, epochs=1)
    parts = assemble(job)
    batch = parts.samples.collate([parts.samples[(0, row)] for row in range(8)]).developed()
    terms, _ = parts.method(batch, AT)
    with torch.no_grad():
        features = parts.method.towers(batch.views, None, 0)["image"]
        first, second = (parts.method.head(view) for view in features)
    assert float(terms["loss"].detach()) == pytest.approx(float(NTXentLoss(temperature=0.2)(first, second)), rel=1e-4)
    weighted = study(tmp_path, count=24, method={"name": "simclr", "quality": {}}, epochs=1)
    train(weighted)
    assert len(lines(weighted)) == 3


def test_simclr_weights_multiply_each_sample_s_loss(tmp_path):
    job = study(tmp_path, count=24, method={"name": "simclr", "quality": {"gamma": 3.0}})
    parts = assemble(job)
    method, samples = parts.method, parts.samples
    batch = samples.collate([samples[(0, row)] for row in range(6)]).developed()
    from genview.training.quality import softmax_weights

    tokens = method.scorer(batch.views).tokens
    sample_weights = softmax_weights(tokens, method.scorer.component, gamma=3.0, over_all_processes=False)
    with torch.no_grad():
        rows = torch.cat([method.head(view) for view in method.towers(batch.views, None, 0)["image"]])
        rows = torch.nn.functional.normalize(rows, dim=1)
        logits = (rows @ rows.T / job.run.method.temperature).masked_fill(torch.eye(12, dtype=torch.bool), -torch.inf)
        each = -logits.log_softmax(1)[torch.arange(12), (torch.arange(12) + 6) % 12]
        expected = (sample_weights.repeat(2) * each).mean()
    assert float(method(batch, AT)[0]["loss"].detach()) == pytest.approx(float(expected), rel=1e-5)
    assert sample_weights.std() > 0.01


# The loop's options


def group_norm(tmp_path, **changes):
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "group_norm.json"
    path.write_text(json.dumps(GROUP_NORM))
    built = {"architecture": str(path)}
    return study(tmp_path, count=24, **{"model": built, "method": {"early": FOUR, "projector": [32, 16]}, **changes})


def test_cached_chunks_give_the_gradients_of_the_whole_batch(tmp_path):
    job = group_norm(tmp_path)
    parts = assemble(job)
    batch = next(
        iter(loader(parts.samples, Order(24, 10, 1, 1, 1), rank=0, first_step=0, last_step=1, workers=0, on_gpu=False))
    )
    method = parts.method
    whole, _ = method(batch, AT)
    whole["loss"].backward()
    expected = {name: p.grad.clone() for name, p in method.named_parameters()}
    for chunk in (1, 3, 10):
        method.zero_grad()
        terms, _ = cached.backward(method, batch, AT, chunk=chunk, scaled_backward=torch.Tensor.backward)
        assert float(terms["loss"].detach()) == pytest.approx(float(whole["loss"].detach()), rel=1e-5)
        for name, parameter in method.named_parameters():
            scale = float(expected[name].abs().max())
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-4 * scale + 1e-7)


def test_cached_chunks_are_refused_where_batch_statistics_would_be_a_chunk_s(tmp_path):
    job = study(tmp_path, count=16, quality=False, cached_chunk=4)
    with pytest.raises(GenviewError, match="BatchNorm"):
        assemble(job)


def test_a_run_with_cached_chunks_equals_one_without(tmp_path):
    plain, chunked = group_norm(tmp_path / "a", epochs=1), group_norm(tmp_path / "b", epochs=1, cached_chunk=3)
    train(plain), train(chunked)
    for one, other in zip(lines(plain), lines(chunked)):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)


def test_accumulation_averages_microbatches_that_are_contrasted_each_within_itself(tmp_path):
    changes = {"epochs": 1, "batch_size": 4, "accumulate": 2, "log_every_steps": 1}
    job = study(tmp_path, count=16, quality=False, optimizer={"warmup_epochs": 0}, **changes)
    reference = assemble(job)
    order = Order(16, 4, 2, 1, randomness.seed("order", reference.seed))
    batches = list(loader(reference.samples, order, rank=0, first_step=0, last_step=1, workers=0, on_gpu=False))
    assert len(batches) == 2 and order.steps_per_epoch == 2
    reference.method.train()
    expected = [reference.method(batch, AT)[0]["loss"] for batch in batches]
    (sum(expected) / 2).backward()
    gradients = [parameter.grad for parameter in reference.method.parameters() if parameter.grad is not None]
    train(job)
    first = lines(job)[0]
    assert first["loss"] == pytest.approx(float(sum(expected).detach()) / 2, rel=1e-6)
    assert first["gradient_norm"] == pytest.approx(float(torch.nn.utils.get_total_norm(gradients)), rel=1e-4)


def test_a_moving_average_is_what_is_exported(tmp_path):
    job = study(tmp_path, count=16, quality=False, epochs=1, ema=0.5, optimizer={"warmup_epochs": 0})
    trainer = Trainer(job)
    trainer.train()
    exported, last = weights(job.model), trainer.method.model.state_dict()
    name = next(n for n in exported if n.startswith("visual.trunk") and n.endswith("weight"))
    assert torch.equal(exported[name], trainer.average.module.state_dict()[name])
    assert not torch.equal(exported[name], last[name])


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": {"gradient_clip": 0.1}},
        {"optimizer": {"name": "lars"}},
        {"optimizer": {"name": "sgd"}},
        {"model": {"text_projection": "mlp"}},
        {"data": {"crops": 2}},
        {"data": {"workers": 1}},
        {"method": {"early": FOUR, "score_augmented": False}},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_options_run_and_change_what_they_are_for(tmp_path, changes):
    needs_quality = "method" in changes
    plain = study(
        tmp_path / "a",
        count=16,
        epochs=1,
        quality=needs_quality,
        **({"method": {"early": FOUR}} if needs_quality else {}),
    )
    other = study(tmp_path / "b", count=16, epochs=1, quality=needs_quality, **changes)
    train(plain)
    AcceleratorState._reset_state(True)
    train(other)
    one, two = lines(plain), lines(other)
    assert len(one) == len(two) == 2 and all(np.isfinite(row["loss"]) for row in two)
    first, second = weights(plain.model), weights(other.model)
    same = first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert same == ("workers" in changes.get("data", {}))


def test_on_a_cpu_half_precision_is_single_precision_and_says_so(tmp_path, caplog):
    plain = study(tmp_path / "a", count=16, epochs=1, quality=False)
    half = study(tmp_path / "b", count=16, epochs=1, quality=False, precision="bf16")
    train(plain)
    AcceleratorState._reset_state(True)
    train(half)
    assert "bf16 is slow on a CPU; fp32 is used" in caplog.text
    first, second = weights(plain.model), weights(half.model)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_freezing_the_patch_embedding_leaves_it_as_it_was(tmp_path):
    path = tmp_path / "vit.json"
    configuration = {**GROUP_NORM, "vision_cfg": {"timm_model_name": "test_vit", "timm_pool": "avg", "image_size": 160}}
    path.write_text(json.dumps(configuration))
    built = {"architecture": str(path), "freeze_patch_embedding": True}
    job = study(tmp_path, count=8, quality=False, epochs=1, batch_size=4, model=built, optimizer={"warmup_epochs": 0})
    trainer = Trainer(job)
    before = {n: p.detach().clone() for n, p in trainer.method.named_parameters()}
    trainer.train()
    for name, parameter in trainer.method.named_parameters():
        if "patch_embed" in name:
            assert torch.equal(parameter, before[name])
    assert not torch.equal(trainer.method.head.state_dict()["layers.0.weight"], before["head.layers.0.weight"])


def test_a_loss_that_is_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    job = study(tmp_path, count=40, quality=False, checkpoints={"every_steps": 1, "keep": 20})
    trainer = Trainer(job)
    count = 0

    def poisoned(*arguments, **named):
        nonlocal count
        count += 1
        value = multi_positive_loss(*arguments, **named)
        return value * float("nan") if count == 4 else value

    monkeypatch.setattr("genview.training.methods.genviewpp.multi_positive_loss", poisoned)
    with pytest.raises(GenviewError, match=r"step 4: the loss is not finite.*scene-00") as refusal:
        trainer.train()
    assert str(refusal.value).count("scene-") == 8
    saved = sorted(path.name for path in Path(job.checkpoints).glob("step-*"))
    assert saved == ["step-00000001", "step-00000002", "step-00000003"]
    monkeypatch.undo()
    train(job)
    assert [row["step"] for row in lines(job)] == list(range(1, 11))


def test_another_number_of_processes_is_refused_with_the_reason(tmp_path):
    job = study(tmp_path, count=40, quality=False, gpus_per_node=2)
    with pytest.raises(GenviewError, match=r"2 processes.*1 were started"):
        Trainer(job)


@pytest.mark.parametrize("architecture", ["small", "base", "base_p32", "large", "tiny"])
@pytest.mark.slow
def test_every_listed_architecture_is_built(architecture):
    settings = RunModel(architecture=architecture)
    whole = describe(settings, text=True)
    with torch.device("meta"):
        built = open_clip.CLIP(**whole.model_cfg)
    assert (
        built.visual.trunk.num_features
        == {"small": 384, "base": 768, "base_p32": 768, "large": 1024, "tiny": 96}[architecture]
    )
    assert describe(settings, text=False).model_cfg["embed_dim"] == built.visual.trunk.num_features
