"""Snakemake's own report: who knows it must find there what our page shows."""

import zipfile

import pytest
from workspace import Workspace

pytestmark = pytest.mark.slow

TINY = "extends: config/config.yaml\nstudy: tiny\nviews: null\nruns: null\nevaluation: null\n"


def test_snakemakes_own_report_holds_the_page_and_its_figures(tmp_path):
    work = Workspace(tmp_path / "work")
    (work.root / "config/tiny.yaml").write_text(TINY)
    arguments = ("--configfile", "config/tiny.yaml")
    for name in work.outputs(*arguments):
        path = work.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix else path.mkdir(exist_ok=True)
    results = work.root / "results/tiny"
    (results / "report.html").write_text("<p>the page</p>")
    (results / "summary.csv").write_text("run,value\na,1\n")
    figures = ("foreground/ratio.svg", "training/loss.svg")
    for name in figures:
        (results / "figures" / name).parent.mkdir()
        (results / "figures" / name).write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    work.snakemake("--touch", "--forceall", *arguments)
    work.snakemake("--report", "own.zip", *arguments)
    with zipfile.ZipFile(work.root / "own.zip") as archive:
        names = archive.namelist()
        page = next(name for name in names if name.endswith("/report.html") and "data" in name)
        assert archive.read(page) == b"<p>the page</p>"
        index = archive.read(next(name for name in names if name.count("/") == 1)).decode()
    assert all(any(name.endswith(figure) for name in names) for figure in figures), names
    assert "where it stands in its place" in index and '"foreground"' in index and '"training"' in index
