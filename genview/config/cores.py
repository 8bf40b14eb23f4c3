"""How many cores the jobs that read images have beside a GPU."""

from typing import Annotated

from pydantic import Field

from genview.config.base import Block

Count = Annotated[int, Field(ge=1)]


class Cores(Block):
    """Cores of a job that uses a GPU, by rule: one runs the model, the others decode images for it, each by a process
    of its own. A job without a GPU has one core. On one machine its GPUs share the cores that Snakemake was given.
    """

    sample_features: Count = 8
    token_scores: Count = 8
    quality_features: Count = 8
    token_cut: Count = 2
    generate_views: Count = 4
    """Decoding matters only where the originals have to be encoded for the pipeline: denoising takes far longer."""
    audit: Count = 8
    find_duplicates: Count = 8
    probe_features: Count = 8
    probe: Count = 12
    """The published protocol, which reads every image in each epoch."""
    probe_parts: Count = 12
    score_zeroshot: Count = 8
    score_retrieval: Count = 8
    score_finetune: Count = 12
    score_detection: Count = 8
