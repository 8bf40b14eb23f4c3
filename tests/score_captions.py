"""Scores captions in a process of its own, to be killed: ``python -m score_captions GUIDANCE MANIFEST OUTPUT``."""

import sys

from genview.config.guidance import Guidance
from genview.guidance import scoring
from genview.guidance.language_model import Scorer

if __name__ == "__main__":
    guidance, manifest, output = sys.argv[1:]
    scorer = Scorer(Guidance.model_validate_json(guidance))
    scoring.run(scorer, manifest=manifest, group="0-of-1", output=output, stamp={"stage": "x"})
