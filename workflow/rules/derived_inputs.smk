# What the rules of derived.smk are given.

import re

ANY_RUN = "|".join(map(re.escape, STUDY.runs)) or "none"


def interpolated_settings(wildcards):
    """What a run began with."""
    run, initial = STUDY.runs[wildcards.run], STUDY.initial(wildcards.run)
    return settings(run=run, initial=initial, study=STUDY.study)
