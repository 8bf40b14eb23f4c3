"""Rule ``interpolate``: weights between a run's beginning and its end."""

from genview import stage
from genview.config.encoders import Encoder
from genview.config.methods import DIVA
from genview.config.training import Run
from genview.encoders import interpolate
from genview.training.data import composition

with stage.job(snakemake, "interpolate") as job:
    run, initial = Run.model_validate(job.settings["run"]), job.settings["initial"]
    encoder = Encoder(model=snakemake.input.initial) if isinstance(initial, str) else Encoder.model_validate(initial)
    size = None if isinstance(run.method, DIVA) else composition.augmentations(run.data)[0].image_size
    before = interpolate.initial_state(run, encoder, size)
    alpha = int(snakemake.wildcards.percent) / 100
    interpolate.write(before, snakemake.input.model, alpha, snakemake.output.model)
