"""Rule ``report``: the study's page, its figures, its numbers as a table."""

from genview import stage
from genview.report import build

with stage.running(snakemake.log[0]):
    build.run(
        snakemake.params.configuration,
        results=snakemake.params.results,
        page_file=snakemake.output.page,
        summary_file=snakemake.output.summary,
        figures=snakemake.output.figures,
        configuration_file=snakemake.output.configuration,
    )
