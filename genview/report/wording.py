"""Numbers as a reader wants them."""

from collections.abc import Iterable


def count(number: float) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{round(number):,}".replace(",", "\u202f")


def plural(number: int, noun: str) -> str:
    """``1 image``, ``2 images``; a noun in -y becomes -ies after a consonant."""
    if number == 1:
        return f"1 {noun}"
    ending = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"
    return f"{count(number)} {ending}"


def percent(share: float, digits: int = 1) -> str:
    """A share in [0, 1] as per cent."""
    return f"{100 * share:.{digits}f}\u202f%"


def signed(value: float) -> str:
    """Two decimals, with a true minus sign."""
    return f"{value:.2f}".replace("-", "\u2212")


def interval(low: float | None, high: float | None, *, share: bool) -> str:
    """A 95 % interval, or nothing where there is none."""
    if low is None or high is None:
        return ""
    return f"{100 * low:.1f} to {100 * high:.1f}" if share else f"{low:.3f} to {high:.3f}"


def seconds(value: float) -> str:
    """A duration in the unit that suits it."""
    if value < 90:
        return f"{value:.1f}\u202fs"
    if value < 5400:
        return f"{value / 60:.1f}\u202fmin"
    return f"{value / 3600:.1f}\u202fh"


def size(number: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f}\u202f{unit}" if unit == "B" else f"{number:.1f}\u202f{unit}"
        number /= 1000
    return f"{number:.1f}\u202fTB"


def heading(name: str) -> str:
    """A name of a metric as a heading: its title with a capital at its start, the rest as it is."""
    words = title(name)
    return words[:1].upper() + words[1:]


def listing(words: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    words = list(words)
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1] if words else "none"


def title(name: str) -> str:
    """A name of a metric or stage in plain words: underscores become spaces."""
    known = {
        "top1": "top-1 accuracy",
        "global": "pairs told apart",
        "with_random_tokens": "pairs told apart, embedding and 76 tokens",
        "with_tokens": "pairs told apart, embedding and all tokens",
        "with_random_share": "pairs told apart, embedding and half of the tokens",
        "top5": "top-5 accuracy",
        "knn_top1": "k-NN top-1",
        "knn_top5": "k-NN top-5",
        "mean_per_class": "mean per class",
        "knn_mean_per_class": "k-NN mean per class",
        "mean": "mean",
        "mean_above_chance": "mean share of the way from chance to 100 %",
        "box_ap": "box AP",
        "box_ap50": "box AP50",
        "box_ap75": "box AP75",
        "mask_ap": "mask AP",
        "mask_ap50": "mask AP50",
        "mask_ap75": "mask AP75",
        "fallbacks": "missing views replaced by originals",
        "iou": "IoU",
        "max_f": "maxF",
        "j_and_f": "J&F",
        "region_j": "J",
        "contour_f": "F",
        "angle_r2": "R2 of the angle",
        "clip_cosine": "CLIP cosine",
        "clip_cosine_by_chance": "CLIP cosine by chance",
        "data_wait_share": "share of time waiting for data",
    }
    for start, words in (("image_recall_at_", "image by its caption"), ("text_recall_at_", "caption by its image")):
        if name.startswith(start):
            return f"{words}, recall at {name.removeprefix(start)}"
    if ": " in name:  # a pattern of MMVP's, by the feature that it was scored with
        return name.partition(": ")[2]
    if "_at_" in name:
        metric, _, share = name.partition("_at_")
        return f"{title(metric)} with {100 * float(share):g} % of the labels"
    words = name.replace("image_image", "image-image").replace("image_text", "image-text").replace("_", " ")
    return known.get(name, words)
