"""Makes one shard in a process of its own, which a test can kill: ``python -m generate_shard JOB.json``."""

import json
import sys
from pathlib import Path

from generation import STAMP

from genview import stage
from genview.config.views import ViewSet
from genview.generation import views

if __name__ == "__main__":
    values = json.loads(Path(sys.argv[1]).read_text())
    paths = {
        name: Path(values[name])
        for name in ("manifest", "conditions", "root", "scores", "tar", "index", "statistics", "work")
    }
    view = ViewSet.model_validate(values["view"])
    with stage.running():
        views.run(views.Shard(name="test", view=view, shard=values["shard"], seed=3, stamp=STAMP, **paths))
