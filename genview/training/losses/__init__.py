"""The methods' losses as functions of tensors: no settings, no state, the same numbers on one and several processes.

All L2-normalise what they compare. float64 stays float64; half precision is raised to float32 and autocast is off
inside. ``weights`` [B] are constants that multiply each sample's term before the mean over samples, whatever their
sum. Within a process group each process's loss is the mean over its own rows, contrasted or balanced with all
processes' rows; the average over processes is the loss of one process that holds the whole batch.
"""

from genview.training.losses.assignment import sinkhorn, swapped_prediction
from genview.training.losses.contrastive import image_text_loss, multi_positive_loss
from genview.training.losses.distillation import head_balance, orthogonality, self_distillation, update_center
from genview.training.losses.pairs import in_batch_contrast, info_nce, negative_cosine

__all__ = [
    "head_balance",
    "image_text_loss",
    "in_batch_contrast",
    "info_nce",
    "multi_positive_loss",
    "negative_cosine",
    "orthogonality",
    "self_distillation",
    "sinkhorn",
    "swapped_prediction",
    "update_center",
]
