"""The costs that a user plans with are those that were measured."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_page_of_costs_says_what_was_measured():
    page = (ROOT / "docs/costs.md").read_text(encoding="utf-8")
    parts = json.loads((ROOT / "benchmarks/results/gpu.json").read_text(encoding="utf-8"))["parts"]
    tokens = parts["encoding"]["vit_h"]["batches"]["1024"]
    views, training = parts["generation"]["compiled"]["16"], parts["training_genviewpp"]
    captions = parts["guidance"]["batches"]["256"]
    expected = [
        f"{tokens['images_per_second']:,.0f} images/s ({100 * tokens['share_of_peak']:.0f} % of the peak)",
        f"| {3e6 / tokens['images_per_second'] / 3600:.1f} |",
        f"{captions['captions_per_second']:.0f} captions/s | {captions['peak_memory_bytes'] / 1e9:.1f} GB",
        f"{views['seconds_per_image']:.3f} s an image | {views['peak_memory_bytes'] / 1e9:.1f} GB",
        f"{3e6 * views['seconds_per_image'] / 3600:.0f} each",
        f"{training['samples_per_second']:.0f} samples/s | {training['peak_memory_bytes'] / 1e9:.1f} GB",
        f"{25 * 3e6 / training['samples_per_second'] / 3600:.0f} for 25 epochs",
        f"| {parts['training_step']['speedup']:.1f} |",
        f"| {parts['augmentation']['ratio']:.0f} |",
    ]
    assert [text for text in expected if text not in page] == []


def test_the_page_says_what_a_step_costs_beside_lightlys_and_the_unets():
    page = (ROOT / "docs/costs.md").read_text(encoding="utf-8")
    found = json.loads((ROOT / "benchmarks/results/methods.json").read_text(encoding="utf-8"))
    names = {"simclr": "SimCLR", "mocov2": "MoCo v2", "mocov3": "MoCo v3", "simsiam": "SimSiam", "byol": "BYOL"}
    names |= {"swav": "SwAV", "dino": "DINO"}

    def short(value):
        return f"{value:.2f}".removeprefix("0")

    expected = [
        f"| {names[name]} | {short(one['ratio_to_lightly'])} | {short(one['share_of_the_weights'])} |"
        for name, one in found["methods"].items()
    ]
    pair = found["clever_beside_dino"]
    clever, dino = (pair[name]["samples_per_second"] for name in ("clever", "dino"))
    expected.append(f"{clever:.2f} samples/s where DINO takes {dino:.2f}")
    real = json.loads((ROOT / "benchmarks/results/diva.json").read_text(encoding="utf-8"))["real"]
    for kind in ("off", "on"):
        one = real[f"gradient checkpointing {kind}"]
        seconds = [f"{one['seconds'][part]:.0f} s" for part in ("unet", "tower", "autoencoder", "step")]
        expected.append(" | ".join([*seconds, f"{one['peak_memory_bytes'] / 1e9:.1f} GB"]))
    assert [text for text in expected if text not in page] == []
    assert all(one["ratio_to_lightly"] <= 1.05 for one in found["methods"].values())


def test_the_page_says_what_many_millions_of_images_take():
    page = (ROOT / "docs/costs.md").read_text(encoding="utf-8")
    few, many = json.loads((ROOT / "benchmarks/results/scale.json").read_text(encoding="utf-8"))["rows"].values()
    expected = [
        " | ".join(f"{one['seconds']:.1f} s | {one['peak_gib']:.2f} GiB" for one in (figures, many[stage]))
        for stage, figures in few.items()
        if stage != "libraries alone"
    ]
    assert [text for text in expected if text not in page] == []
    assert max(one["peak_gib"] for one in many.values()) < 4
    assert many["start of a generation job"]["peak_gib"] < 1.1 * few["start of a generation job"]["peak_gib"]


def test_the_page_says_what_planning_takes_beside_snakemake_alone():
    page = (ROOT / "docs/costs.md").read_text(encoding="utf-8")
    found = json.loads((ROOT / "benchmarks/results/planning.json").read_text(encoding="utf-8"))["studies"]
    expected = [
        f"| {one['shards']:,} | {one['study']['jobs']:,} | {one['study']['seconds']:.1f} s | "
        f"{one['milliseconds_a_job']['study']:.2f} | {one['milliseconds_a_job']['plain']:.2f} |"
        for one in found.values()
    ]
    assert [text for text in expected if text not in page] == []
    each = found["cc3m, 10,000 shards"]["milliseconds_a_job"]
    assert each["study"] < 1.5 * each["plain"] and found["imagenet, 10,000 shards"]["study"]["seconds"] < 60


def test_planning_is_measured_through_the_command(tmp_path):
    words = [sys.executable, "benchmarks/planning.py", "--only", "cc3m", "--shards", "3", "--to", str(tmp_path / "x")]
    subprocess.run(words, check=True, cwd=ROOT, capture_output=True)
    found = json.loads((tmp_path / "x").read_text())["studies"]["cc3m"]
    assert found["plain"]["jobs"] == 11 and found["study"]["jobs"] > 30 and found["shards"] == 3
