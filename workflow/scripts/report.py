"""Rule ``report``: the study's page, its figures, its numbers as a table."""

from pathlib import Path

from genview import stage
from genview.config.study import Study
from genview.report import build

with stage.job(snakemake, "report") as job:
    build.run(
        # A record leaves out what is null; the page shows every setting.
        Study.model_validate(job.settings["configuration"]).model_dump(mode="json"),
        results=Path(snakemake.output.page).parent,
        page_file=snakemake.output.page,
        summary_file=snakemake.output.summary,
        figures=snakemake.output.figures,
        configuration_file=snakemake.output.configuration,
    )
