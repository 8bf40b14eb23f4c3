"""Rule ``report``: the study's page, its figures, its numbers as a table."""

from pathlib import Path

from genview import stage
from genview.report import build

with stage.job(snakemake, "report") as job:
    build.run(
        job.settings["configuration"],
        results=Path(snakemake.output.page).parent,
        page_file=snakemake.output.page,
        summary_file=snakemake.output.summary,
        figures=snakemake.output.figures,
        configuration_file=snakemake.output.configuration,
    )
