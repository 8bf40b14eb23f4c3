# What the audit is given.


def audit_settings(wildcards):
    """Settings of the audit: its block, and the encoders that it names or, without names, the foreground's."""
    names = STUDY.audit.encoders or (STUDY.foreground.encoder,)
    encoders = {name: STUDY.encoders[name] for name in names}
    return settings(
        audit=STUDY.audit,
        encoders=encoders,
        seed=STUDY.seed,
        study=STUDY.study,
        runtime={"dataset": STUDY.dataset},
    )
