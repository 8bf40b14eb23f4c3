"""Which kind of images a dataset has: the three groups of VTAB (Zhai et al. 2019, section 2.2), retrieval, others.

*Natural*: objects, textures, scenes by ordinary cameras. *Specialised*: by special devices, of medicine or from above.
*Structured*: what is asked is a count, a distance, a place or an angle, not a kind of thing.
"""

NATURAL, SPECIALISED, STRUCTURED, RETRIEVAL, OTHER = "natural", "specialised", "structured", "retrieval", "other"
GROUPS = (NATURAL, SPECIALISED, STRUCTURED, RETRIEVAL, OTHER)

_SPECIALISED = ("pcam", "patch_camelyon", "eurosat", "resisc45", "diabetic_retinopathy")
_STRUCTURED = ("clevr", "dmlab", "dsprites", "smallnorb", "kitti")
_NATURAL = (
    *("aircraft", "caltech101", "cars", "cifar10", "cifar100", "country211", "dtd", "fgvc_aircraft", "flowers"),
    *("food101", "imagenet", "imagenetv2", "in100", "in1k", "objectnet", "pets", "stl10", "sun397", "svhn", "voc2007"),
)


def of(name: str, task: str) -> str:
    """The group of a dataset.

    Args:
        name: as the configuration names it; prefixes (``wds/``, ``vtab/``, clip_benchmark's ``wds_``) are
            ignored.
        task: ``probes``, ``zeroshot`` or ``retrieval``.
    """
    if task == RETRIEVAL:
        return RETRIEVAL
    plain = name.rpartition("/")[2].removeprefix("wds_").removeprefix("vtab-").removeprefix("vtab_")
    if plain.startswith(_SPECIALISED):
        return SPECIALISED
    if plain.startswith(_STRUCTURED):
        return STRUCTURED
    return NATURAL if plain in _NATURAL or plain.startswith("imagenet") else OTHER
