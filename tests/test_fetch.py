"""Weights that can be had: fetched by one command from a hub, checked, pinned, and never asked for by a job.

The hub is a server on this machine that speaks the hub's protocol (`hub_server`); its client is the real one.
"""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import hub_server
import numpy as np
import pytest
import yaml
from workspace import Workspace

from genview import __main__ as command_line
from genview import preflight
from genview.config import load
from genview.errors import GenviewError
from genview.models import load as models
from genview.provenance import file_sha256

SMALL = models.small_directory("small/clip").parent

STUDY = """
study: fetched
dataset: {source: scenes, count: 4, shards: 1}
encoders: {ours: {model: "hf-hub:lab/clip"}}
pca: {sample: 4}
foreground: {encoder: ours}
quality_encoder: ours
audit: {encoders: []}
views: {img: {mode: img, model: lab/unclip, steps: 2, guidance_scale: 1}}
"""


@pytest.fixture
def hub():
    with hub_server.running() as running:
        running.add("lab/clip", SMALL / "clip")
        running.add("lab/unclip", SMALL / "unclip", **{"unet/flax_model.msgpack": bytes(5000)})
        yield running


class Laboratory:
    """A folder with a study, an empty cache of the hub, and the commands that are typed there."""

    def __init__(self, root: Path, url: str):
        self.root = root
        root.mkdir(exist_ok=True)
        (root / "study.yaml").write_text(STUDY)
        self.environment = {
            **os.environ, "HF_ENDPOINT": url, "HF_HOME": str(root / "cache"), "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }  # fmt: skip

    def genview(self, *words: str) -> subprocess.CompletedProcess:
        """Type a command."""
        return subprocess.run(
            [sys.executable, "-m", "genview", *words],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
        )

    def fails(self, *words: str) -> str:
        """The sentence that a command ends with."""
        done = self.genview(*words)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        return done.stderr

    @property
    def fetched(self) -> list[str]:
        """Names of all files in the cache that stand for something."""
        return sorted(path.name for path in self.root.glob("cache/hub/models--*/snapshots/*/**/*") if path.is_file())

    def lock(self) -> dict:
        """What the lock says."""
        return yaml.safe_load((self.root / "weights.lock").read_text())


class Within(Laboratory):
    """The same in this process, where the libraries are imported already: ten times faster."""

    def __init__(self, root: Path, url: str, monkeypatch: pytest.MonkeyPatch):
        super().__init__(root, url)
        self.monkeypatch, self.url = monkeypatch, url

    def genview(self, *words: str) -> subprocess.CompletedProcess:
        """Run a command as if it were typed."""
        self.monkeypatch.chdir(self.root)
        names = {
            "ENDPOINT": self.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(self.root / "cache/hub"),
        }
        for name, value in names.items():
            self.monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = command_line.main(list(words))
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


@pytest.fixture
def lab(hub, tmp_path, monkeypatch):
    return Within(tmp_path / "lab", hub.url, monkeypatch)


FETCH = ("fetch", "--config", "study.yaml")


@pytest.mark.slow
def test_one_command_fetches_what_the_study_needs_and_no_job_asks_the_hub(hub, tmp_path):
    lab = Laboratory(tmp_path / "lab", hub.url)
    said = lab.fails("check", "--config", "study.yaml")
    assert "lab/clip is neither a path nor in the hub's cache" in said and "genview fetch" in said
    dry = lab.genview(*FETCH, "--dry-run")
    assert dry.returncode == 0 and lab.fetched == [] and not (lab.root / "weights.lock").exists()
    assert "lab/clip at" in dry.stdout and "kB to fetch (encoders.ours.model)" in dry.stdout, dry.stdout

    done = lab.genview(*FETCH)
    assert done.returncode == 0, done.stderr
    assert "flax_model.msgpack" not in lab.fetched and "README.md" not in lab.fetched
    assert "diffusion_pytorch_model.safetensors" in lab.fetched and "open_clip_model.safetensors" in lab.fetched
    locked = lab.lock()["repositories"]["lab/clip"]
    assert locked["revision"] == next(iter(hub.repositories["lab/clip"]))
    weights = SMALL / "clip/open_clip_model.safetensors"
    expected = {"size": weights.stat().st_size, "sha256": file_sha256(weights)}
    assert locked["files"][weights.name] == expected
    before = sum(hub.asked.values())
    again = lab.genview(*FETCH)
    assert again.returncode == 0 and "in the cache" in again.stdout and "to fetch: 0" in again.stdout
    assert not [path for path in list(hub.asked)[before:] if "resolve" in path]

    hub.asked.clear()
    assert lab.genview("check", "--config", "study.yaml").returncode == 0
    work = Workspace(tmp_path / "work")
    (work.root / "study.yaml").write_text(STUDY)
    settings = {name: lab.environment[name] for name in ("HF_ENDPOINT", "HF_HOME")}
    work.snakemake("--configfile", "study.yaml", "--cores", "2", "views", **settings)
    assert (work.root / "results/fetched/views/img/0-of-1.tar").is_file()
    assert not hub.asked, f"a job asked the hub: {hub.asked}"


def test_a_lock_pins_a_study_whatever_the_hub_has_since(hub, lab, monkeypatch):
    assert lab.genview(*FETCH).returncode == 0
    (lab.root / "study.yaml").write_text(STUDY + "weights_lock: weights.lock\n")
    first = lab.lock()["repositories"]["lab/clip"]["revision"]
    second = hub.add("lab/clip", SMALL / "clip", **{"news.txt": b"another commit"})
    shown = lab.genview("config", "--config", "study.yaml").stdout
    assert f"revision: {first}" in shown and any(first in row and "weights.lock" in row for row in shown.split("\n"))

    newcomer = Within(lab.root.parent / "newcomer", hub.url, monkeypatch)
    for name in ("study.yaml", "weights.lock"):
        (newcomer.root / name).write_bytes((lab.root / name).read_bytes())
    assert newcomer.genview(*FETCH).returncode == 0
    assert newcomer.lock() == lab.lock() and "news.txt" not in newcomer.fetched
    assert newcomer.genview("check", "--config", "study.yaml").returncode == 0, (
        "pinned weights are found without a name"
    )

    done = newcomer.genview(*FETCH, "--update")
    assert done.returncode == 0 and newcomer.lock()["repositories"]["lab/clip"]["revision"] == second
    (newcomer.root / "weights.lock").unlink()
    assert "weights_lock: no file weights.lock" in newcomer.fails("check", "--config", "study.yaml")
    with pytest.raises(GenviewError, match="weights_lock"):  # one stage alone, as the workflow asks
        preflight.require(load.load(newcomer.root / "study.yaml"), {"data"})
    lock = {**lab.lock(), "repositories": {"lab/unclip": lab.lock()["repositories"]["lab/unclip"]}}
    (newcomer.root / "weights.lock").write_text(yaml.safe_dump(lock))
    said = newcomer.fails("check", "--config", "study.yaml")
    assert "encoders.ours.model: weights.lock says nothing of lab/clip" in said and "lab/unclip" not in said
    (newcomer.root / "weights.lock").write_text("repositories: {lab/clip: {revision: main}}\n")
    assert "weights.lock: repositories.lab/clip.revision" in newcomer.fails("check", "--config", "study.yaml")


def test_what_was_cut_off_goes_on_and_what_is_wrong_is_refused(hub, lab):
    weights = np.random.default_rng(0).bytes(24_000_000)  # the client writes blocks of 10 MB
    hub.add("lab/clip", SMALL / "clip", **{"open_clip_model.safetensors": weights})
    hub.cut = ("open_clip_model.safetensors", 15_000_000)
    hub.spoilt = "tokenizer.json"
    said = lab.fails(*FETCH)
    assert "lab/clip: tokenizer.json" in said and "not the bytes that the hub promises" in said
    assert hub.ranges and hub.ranges[0] != "bytes=0-", "what was there is fetched once more"
    assert not (lab.root / "weights.lock").exists()
    hub.spoilt = None
    assert lab.genview(*FETCH).returncode == 0
    (found,) = lab.root.glob("cache/hub/models--lab--clip/snapshots/*/open_clip_model.safetensors")
    assert found.read_bytes() == weights


def test_every_reason_why_a_model_cannot_be_had_is_named(hub, lab, monkeypatch):
    hub.gated = "lab/unclip"
    assert "views.img.model: lab/unclip asks for consent" in lab.fails(*FETCH)
    (lab.root / "study.yaml").write_text(STUDY.replace("lab/unclip", "lab/nothing"))
    assert "views.img.model: the hub has no lab/nothing" in lab.fails(*FETCH)
    (lab.root / "study.yaml").write_text(STUDY.replace("lab/unclip,", "lab/unclip, revision: v2,"))
    hub.gated = None
    assert "views.img.model: lab/unclip has no revision v2" in lab.fails(*FETCH)
    hub.add("lab/empty", SMALL / "judge/none")
    (lab.root / "study.yaml").write_text(STUDY.replace("lab/unclip", "lab/empty"))
    assert "lab/empty holds no file" in lab.fails(*FETCH)
    nowhere = Within(lab.root, "http://127.0.0.1:9", monkeypatch)
    said = nowhere.fails(*FETCH)
    assert "http://127.0.0.1:9 cannot be asked for lab/clip" in said and "login node" in said
