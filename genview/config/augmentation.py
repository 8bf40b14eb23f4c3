"""What happens to each view, and which views a sample consists of; published sets of slots by name."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from genview.config.base import Block, RuntimeOnly, Share

NonNegative = Annotated[float, Field(ge=0)]
Area = Annotated[float, Field(gt=0, le=1)]


class Augmentation(Block):
    """What happens to each view on its own (GenView++'s defaults), in this order."""

    image_size: int | None = Field(None, ge=16)
    """Side of the views in pixels; null: the model's own."""
    resample: Share = 0.05
    """Probability of going down to ``resample_sizes`` and up again, which hides the generator's resolution."""
    resample_sizes: tuple[int, ...] = (64, 128)
    resample_to: int = 256
    minimum_area: Area = 0.08
    """Smallest area of the random resized crop, as a share of the image; 0.5 is the published weak augmentation."""
    maximum_area: Area = 1.0
    """Largest area of the crop."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """Of the resized crop; antialiased."""
    flip: Share = 0.5
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest angle in degrees, to either side; every view is rotated (nearest pixel, black corners); 0: none."""
    elastic: Share = 0.0
    """Probability of an elastic deformation."""
    elastic_alpha: NonNegative = 100.0
    """Size of its displacements in pixels, before they are smoothed."""
    elastic_sigma: Annotated[float, Field(gt=0)] = 5.0
    """Smoothness of its displacements in pixels."""
    jitter: Share = 0.8
    jitter_strength: tuple[NonNegative, NonNegative, NonNegative, Annotated[float, Field(ge=0, le=0.5)]] = (
        0.4,
        0.4,
        0.4,
        0.1,
    )
    """Brightness, contrast, saturation, hue; in random order."""
    grey: Share = 0.2
    blur: Share = 0.5
    blur_sigma: tuple[NonNegative, NonNegative] = (0.1, 2.0)
    """Smallest and largest standard deviation of the blur in pixels."""
    blur_kernel: int | None = Field(None, ge=3)
    """Odd width of the blur in pixels; null: about a tenth of the view's side (SimCLR)."""
    solarise: Share = 0.0
    """Probability of inverting values from 128 on."""
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    """Normalisation; null: the model's own."""

    @model_validator(mode="after")
    def _possible(self) -> "Augmentation":
        if self.minimum_area > self.maximum_area:
            raise ValueError(f"minimum_area {self.minimum_area} is above maximum_area {self.maximum_area}")
        if self.blur_sigma[0] > self.blur_sigma[1]:
            raise ValueError("blur_sigma: the smaller value comes first")
        return self


class Slot(Augmentation):
    """Crops of a sample that are made alike."""

    crops: int = Field(1, ge=1, le=16)
    """How many of them."""
    source: Literal["original", "generated", "random"] = "original"
    """What they are cut from: the original; a generated view, each crop with the probability in ``data.views``; or
    ``random``, GenView's pairing: of all crops with this source one, another for each sample, is cut from a generated
    view with that probability, the others from the original."""


def _pair(first: dict[str, Any], second: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"resample": 0, "source": "random", **first}, {"resample": 0, "source": "random", **second}]


_BILINEAR = {"interpolation": "bilinear", "minimum_area": 0.2}
_SOFT_HUE = {"jitter_strength": (0.4, 0.4, 0.2, 0.1)}
_SWAV = {"jitter_strength": (0.8, 0.8, 0.8, 0.2), "interpolation": "bilinear"}
_ASYMMETRIC = ({"blur": 1.0, "blur_kernel": 17}, {"blur": 0.1, "blur_kernel": 17, "solarise": 0.2})
"""One view always blurred, the other seldom and now and then solarised (BYOL, table 6)."""


def _multi_crop(extra: dict[str, Any]) -> list[dict[str, Any]]:
    """DINO's crops: two large ones and eight small ones; ``extra`` for all of them."""
    first, second = ({**_SOFT_HUE, "minimum_area": 0.4, **one, **extra} for one in _ASYMMETRIC)
    small = {"image_size": 96, "crops": 8, "minimum_area": 0.05, "maximum_area": 0.4, "blur_kernel": 17, "resample": 0}
    return [*_pair(first, second), {**_SOFT_HUE, **small, **extra}]


PRESETS: dict[str, list[dict[str, Any]]] = {
    "mocov2": _pair(_BILINEAR, _BILINEAR),
    "simsiam": _pair(_BILINEAR, _BILINEAR),
    "byol": _pair(*({**_SOFT_HUE, **one} for one in _ASYMMETRIC)),
    "mocov3": _pair(*({**_SOFT_HUE, "interpolation": "bilinear", **one} for one in _ASYMMETRIC)),
    "mocov3_r50": _pair(*({**_SOFT_HUE, **_BILINEAR, **one} for one in _ASYMMETRIC)),
    "swav": [
        *_pair({**_SWAV, "minimum_area": 0.14}, {**_SWAV, "minimum_area": 0.14}),
        {**_SWAV, "image_size": 96, "crops": 6, "minimum_area": 0.05, "maximum_area": 0.14, "resample": 0},
    ],
    "baug": _multi_crop({}),
    "caug": _multi_crop({"rotation": 90}),
    "caug+": _multi_crop({"rotation": 90, "elastic": 0.5}),
    "diva": [{"resample": 0, "minimum_area": 0.9, "flip": 0, "jitter": 0, "grey": 0, "blur": 0}],
}
"""Published sets of slots. ``baug`` is DINO's; ``caug`` rotates every crop by up to 90 degrees, ``caug+`` also deforms
half of them (CLeVER, supplement). ``diva`` is one view that is hardly changed, of its diffusion model's size. Large
crops have the source ``random``: without view sets that is the original."""


class RunData(Block):
    """Which views a sample consists of."""

    views: dict[str, Share] = {}
    """View set -> probability that the sample takes its view from it (GenView's alpha); otherwise an original."""
    slots: tuple[Slot, ...] = ()
    """The crops of a sample, one block for those that are made alike, or the name of a published set: ``mocov2``,
    ``simsiam``, ``byol``, ``mocov3``, ``mocov3_r50``, ``swav``, ``baug``, ``caug``, ``caug+``, ``diva``. Left empty, a
    sample is what ``include_original`` to ``minimum_views`` say, every view made by ``augmentation``."""
    include_original: bool = True
    """The original is one of the views."""
    choose: int | None = Field(None, ge=1)
    """Take this many of the view sets at random for each sample; null: all of them."""
    always: tuple[str, ...] = ()
    """With ``choose``: these view sets are always taken, the others are drawn."""
    crops: int = Field(1, ge=1, le=16)
    """Augmented crops per image."""
    minimum_views: int = Field(2, ge=1)
    """Views (images x crops) per sample at least: originals are repeated, augmented anew, to reach it."""
    missing: Literal["original", "refuse"] = "original"
    """Where a generated view is missing: use the original (counted and reported), or stop."""
    fast_decode: bool | None = None
    """Decode JPEGs at the smallest scale at which no crop of the sample has to be enlarged for it (an eighth, a
    quarter, a half): faster for large photographs, and slightly other pixels. Null: in full."""
    workers: Annotated[int, RuntimeOnly] = Field(0, ge=0)
    """Loader processes per training process; 0: load in the training process."""
    augmentation: Augmentation = Augmentation()

    @field_validator("slots", mode="before", json_schema_input_type=str | tuple[Slot, ...])
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in PRESETS:
            raise ValueError(f"no set of slots {value!r}; there are {', '.join(PRESETS)}")
        return PRESETS[value]

    @model_validator(mode="after")
    def _one_way(self) -> "RunData":
        others = ("include_original", "choose", "always", "crops", "minimum_views")
        stated = [name for name in others if getattr(self, name) != RunData.model_fields[name].default]
        if self.slots and stated:
            raise ValueError(f"slots and {', '.join(stated)} exclude each other: slots say all of it")
        if len({(slot.mean, slot.std) for slot in self.slots}) > 1:
            raise ValueError("slots have different mean or std; the model has one normalisation")
        if self.slots and not self.views and any(slot.source == "generated" for slot in self.slots):
            raise ValueError("a slot has source generated, but there are no view sets in data.views")
        return self
