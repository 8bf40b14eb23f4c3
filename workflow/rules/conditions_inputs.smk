# What the rules of conditions.smk are given: the functions stand apart from the rules.

LEVELS_FROM = {view.level_source() for view in STUDY.views.values()}
SCALES_FROM = {view.guidance_source() for view in STUDY.views.values()}

# View sets that give their own levels and scales need no table of them.
NEEDS_NOISE_LEVELS = "table" in LEVELS_FROM
NEEDS_GUIDANCE_SCALES = "table" in SCALES_FROM
SCALING = "strategy constant scales default_scale maximum_unscored given".split()


def condition_settings():
    """Where levels and scales come from; what chance draws from counts only where view sets are drawn for."""
    random_levels, random_scales = "random" in LEVELS_FROM, "random" in SCALES_FROM
    return settings(
        noise_level={
            "source": (
                "given" if STUDY.noise_level.given else STUDY.noise_level.strategy
            ),
            "drawn_from": STUDY.noise_level.levels if random_levels else (),
        },
        guidance_scale={
            "source": "given" if STUDY.guidance.given else STUDY.guidance.strategy,
            "drawn_from": STUDY.guidance.scales if random_scales else (),
        },
        modes={name: view.mode for name, view in STUDY.views.items()},
        seed=STUDY.seed if random_levels or random_scales else 0,
    )
