# What the rules of foreground.smk are given: the functions stand apart from the rules.

FOREGROUND = f"{RESULTS}/foreground"
MEASURING = f"{FOREGROUND}/{STUDY.foreground.encoder}"

# The foreground pass: a file for each group of shards, a hundred at most.
SCORES = expand(f"{MEASURING}/scores/{{group}}.parquet", group=GROUPS)

# A thousand images in each file, whatever the number of shards: another number fits no component anew.
SAMPLE_FILES = max(1, STUDY.pca.sample // 1000)

# What of the component's settings decides what is encoded and fitted; the rest decides what follows from it.
CHOICE = STUDY.pca.model_dump(mode="json", exclude={"sample", "vector"})


def encoder_settings(wildcards):
    """The settings of the encoder that a path names, and where the images are."""
    return settings(
        encoder=STUDY.encoders[wildcards.encoder], dataset=IMAGES, study=STUDY.study
    )


def cut_settings(wildcards):
    """As above, and how many images are cut."""
    return {**encoder_settings(wildcards), "images": STUDY.foreground.second_opinion}


def sample_settings(wildcards):
    """As above, with what decides the sample."""
    return {
        **encoder_settings(wildcards),
        "sample": STUDY.pca.sample,
        "seed": STUDY.seed,
    }


def component_settings(wildcards):
    """As above, with a given vector. The tokens are dropped, so what made them is remembered here as well."""
    return {**sample_settings(wildcards), "vector": STUDY.pca.vector}
