"""What people have, through the command: the small study on each kind of collection (`sources.py` runs it whole)."""

import pytest
import sources
from workspace import Workspace

from genview import parquet, tables

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("sources"))


@pytest.mark.parametrize("source", sources.SOURCES)
def test_a_collection_is_taken_whole_and_the_rest_of_the_study_planned(work, source):
    arguments = sources.study(work, source)
    checked = work.python("-m", "genview", "check", "--config", f"{source}.yaml")
    assert f"the study {source!r} can run" in checked.stdout
    manifest = f"results/{source}/data/manifest.parquet"
    work.snakemake(manifest, *arguments)
    rows = parquet.read(work.root / manifest, tables.MANIFEST).to_pylist()
    assert len(rows) == sources.COUNT and all(row["caption"] for row in rows)
    assert all(bool(row["label"]) == (source in sources.LABELLED) for row in rows)
    planned = work.planned(*arguments)
    assert planned["generate_views"] == 6 and planned["train"] == 2 and planned["report"] == 1
    assert ("own" in str(work.outputs(*arguments))) == (source in sources.LABELLED)
