"""Every table of a study: its columns, their types, units and nullability, in one place."""

import pyarrow as pa


def _schema(*columns: tuple[str, pa.DataType, bool, str]) -> pa.Schema:
    """Columns as (name, type, nullable, meaning)."""
    return pa.schema(
        [pa.field(name, kind, nullable=nullable, metadata={"meaning": text}) for name, kind, nullable, text in columns]
    )


MANIFEST = _schema(
    ("key", pa.string(), False, "unique stable name of the image"),
    ("path", pa.string(), False, "file that holds the bytes: an image, or an uncompressed tar"),
    ("offset", pa.int64(), False, "first byte of the image in that file"),
    ("length", pa.int64(), False, "number of bytes"),
    ("caption", pa.string(), True, "the caption, the first of several; null where there is none"),
    ("captions", pa.list_(pa.string()), True, "all captions of an image that has several; else null"),
    ("label", pa.string(), True, "class name; null where there is none"),
    ("width", pa.int32(), False, "pixels, after EXIF orientation"),
    ("height", pa.int32(), False, "pixels, after EXIF orientation"),
    ("shard", pa.int32(), False, "0-based shard of the key"),
    ("sha256", pa.string(), False, "digest of the image's bytes"),
    ("foreground_share", pa.float32(), True, "true share of foreground where the source knows it, in [0, 1]"),
    (
        "attributes",
        pa.string(),
        True,
        "JSON: what else the source knows (drawn scenes: colour, constraints, ...)",
    ),
)

OUTCOMES = _schema(
    ("key", pa.string(), False, "test image: its file or key; of probes the first 16 digits of its pixels' digest"),
    ("label", pa.int32(), False, "number of its class"),
    ("prediction", pa.int32(), False, "number of the class with the largest score"),
    ("neighbours", pa.int32(), True, "number of the class that k-NN gives; null where there is no k-NN"),
)

RANKS = _schema(
    ("key", pa.string(), False, "test image: its file or key"),
    ("query", pa.string(), False, "image: captions are sought; text: a caption of the image seeks it"),
    ("rank", pa.int32(), False, "place of the first right answer, 0-based"),
)

MAY_BE_LEFT_OUT = frozenset({"captions", "random_noise_level", "random_guidance_scale"})
"""Columns that a writer who has no values for them need not name: they are null."""

REJECTED = _schema(
    ("key", pa.string(), True, "key, where one could be formed"),
    ("source", pa.string(), False, "file, row or member that was refused"),
    ("reason", pa.string(), False, "why"),
    (
        "kind",
        pa.string(),
        False,
        "unreadable | invalid | duplicate | leaked: duplicates do not count as failures",
    ),
)

SCORES = _schema(
    ("key", pa.string(), False, "image"),
    (
        "scores",
        pa.list_(pa.float16()),
        False,
        "projection of each of the T tokens on the component, row-major, raw",
    ),
    ("embedding", pa.list_(pa.float32()), False, "image embedding, projected, not L2-normalised"),
)

FOREGROUND_RATIO = _schema(
    ("key", pa.string(), False, "image"),
    ("ratio", pa.float32(), False, "foreground ratio: share of tokens above the threshold, in [0, 1]"),
)

TOKEN_CUT = _schema(
    ("key", pa.string(), False, "image"),
    ("ratio", pa.float32(), False, "share of tokens in TokenCut's foreground, in [0, 1]"),
    ("foreground", pa.list_(pa.bool_()), False, "whether each of the T tokens is in it, row-major"),
)

NOISE_LEVEL = _schema(
    ("key", pa.string(), False, "image"),
    ("noise_level", pa.int32(), False, "index into the image-noising schedule, 0..999"),
)

GUIDANCE = _schema(
    ("key", pa.string(), False, "image"),
    (
        "score",
        pa.int32(),
        True,
        "visual constraints of the caption by the rubric, 1..4; null where scoring failed",
    ),
    (
        "probabilities",
        pa.list_(pa.float32(), 4),
        True,
        "probability of each score; null if the backend has none",
    ),
    ("expectation", pa.float32(), True, "expected score; null if the backend has no probabilities"),
    ("explanation", pa.string(), True, "the backend's words, if asked for"),
    ("raw_answer", pa.string(), True, "what the backend answered, where it could not be scored"),
)

GUIDANCE_SCALE = _schema(
    ("key", pa.string(), False, "image"),
    ("guidance_scale", pa.float32(), False, "classifier-free guidance scale"),
    ("score", pa.int32(), True, "the score it came from, if any"),
    (
        "is_default",
        pa.bool_(),
        False,
        "true where the caption could not be scored and the default scale stands",
    ),
)

CONDITIONS = _schema(
    ("key", pa.string(), False, "image"),
    ("caption", pa.string(), True, "the caption"),
    ("noise_level", pa.int32(), True, "null where no view needs it"),
    ("guidance_scale", pa.float32(), True, "null where no view needs it"),
    ("random_noise_level", pa.int32(), True, "one drawn for the image; null where no view set takes random levels"),
    ("random_guidance_scale", pa.float32(), True, "as above, of the guidance scales"),
    ("noise_level_from", pa.string(), False, "adaptive | constant | random | given | none"),
    ("guidance_scale_from", pa.string(), False, "adaptive | constant | random | given | default | none"),
)

VIEWS = _schema(
    ("key", pa.string(), False, "original image"),
    ("sample", pa.int32(), False, "0-based number of the generated sample"),
    ("offset", pa.int64(), False, "first byte of the JPEG in the shard's tar"),
    ("length", pa.int64(), False, "number of bytes of the JPEG"),
    ("noise_level", pa.int32(), True, "noise level used; null in txt mode"),
    ("guidance_scale", pa.float32(), False, "guidance scale used"),
    ("seed", pa.uint64(), False, "seed of the image's own generator"),
)

KEPT = _schema(("made_from", pa.string(), False, "digest of what a row was made from; empty: not to be taken over"))
