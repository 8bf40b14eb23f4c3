"""The report of a study: one page that needs no network, the same figures as files, the numbers as a table.

Nothing is computed anew here: every section reads what the stages left behind, and a section whose artifacts a study
lacks is left out.
"""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from genview import __version__, atomic
from genview.report import (
    conditions,
    data,
    drawing,
    evaluation,
    foreground,
    origin,
    summary,
    training,
    views,
)
from genview.report.blocks import Section
from genview.results import StudyResults

HERE = Path(__file__).parent
SECTIONS = (
    data.section,
    foreground.section,
    conditions.section,
    views.section,
    views.audit,
    training.section,
    evaluation.section,
    evaluation.duplicates,
    origin.section,
)
"""In the order of the study."""

logger = logging.getLogger(__name__)


def sections(study: StudyResults) -> list[Section]:
    """The sections that the study has artifacts for."""
    found = []
    for make in SECTIONS:
        section = make(study)
        if section is None:
            logger.info("no artifacts for %s.%s", make.__module__, make.__name__)
        else:
            found.append(section)
    return found


def page(study: str, parts: list[Section]) -> str:
    """The sections as one HTML file without references to anything outside it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    style = Markup((HERE / "style.css").read_text(encoding="utf-8"))
    template = environment.get_template("template.html")
    return template.render(study=study, sections=parts, style=style, version=__version__, Markup=Markup)


def run(
    configuration: Mapping[str, Any],
    *,
    results: str | Path,
    page_file: str | Path,
    summary_file: str | Path,
    figures: str | Path,
    configuration_file: str | Path,
) -> None:
    """Write the page, the table of all measurements, the figures as SVG files and the effective configuration.

    Args:
        configuration: the study's effective configuration, as plain values.
        results: the study's folder of results.
        page_file: ``report.html``.
        summary_file: ``summary.csv``.
        figures: folder for ``<section>/<figure>.svg``.
        configuration_file: JSON; what ``python -m genview compare`` compares.
    """
    study = StudyResults(results, configuration)
    parts = sections(study)
    atomic.write_json(configuration_file, dict(configuration))
    summary.write(study.rows, summary_file)
    shutil.rmtree(figures, ignore_errors=True)
    for part in parts:
        for block in part.blocks:
            if block.kind == "figure":
                path = Path(figures) / part.identifier / f"{block.name}.svg"
                atomic.write_text(path, drawing.standalone(block.svg))
    atomic.write_text(page_file, page(configuration["study"], parts))
    logger.info("%s: %d sections, %.1f MB", page_file, len(parts), Path(page_file).stat().st_size / 1e6)
