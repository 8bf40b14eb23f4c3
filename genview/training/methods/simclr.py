"""SimCLR's two-view NT-Xent, images only, with GenView's softmax weights (GenView, eq. 11-14)."""

import torch
from torch import Tensor, nn

from genview.config.training import Run
from genview.errors import GenviewError
from genview.training import quality
from genview.training.data import composition
from genview.training.data.batch import Batch
from genview.training.losses import multi_positive_loss
from genview.training.methods.method import Method, projected, projection_head, sample_labels
from genview.training.scoring import Scorer


class SimCLR(Method):
    """NT-Xent; ``loss.gamma_image_image`` is GenView's gamma (1 as published), and 0 turns the weights off."""

    def __init__(self, run: Run, model: nn.Module, scorer: Scorer | None):
        super().__init__(run, model, scorer)
        views = composition.views_per_sample(run.data)
        if views != 2:
            raise GenviewError(f"method simclr contrasts two views; the run's data give {views} (see data.choose)")
        self.head = projection_head(model.visual.trunk.num_features, run.model.projector)

    def losses(self, features: dict[str, Tensor], batch: Batch, epoch: int) -> dict[str, Tensor]:
        """NT-Xent of the pairs, each sample weighted."""
        settings, (views, samples) = self.run.loss, features["image"].shape[:2]
        projections = projected(self.head, features["image"]).float()
        labels = sample_labels(views, samples, projections.device)
        weights = None
        with torch.autocast(projections.device.type, enabled=False):
            if settings.gamma_image_image:
                scored = batch.views if settings.score_augmented else batch.clean
                weights = quality.softmax_weights(
                    self.scorer(scored, chunk=self.run.cached_chunk).tokens,
                    self.scorer.component,
                    gamma=settings.gamma_image_image,
                    over_all_processes=settings.quality_scope == "global",
                )
                # A row has one positive, so weighting its pairs weights the row: both terms of a sample alike.
                weights = weights.repeat(views)[:, None].expand(-1, len(projections))
            loss = multi_positive_loss(projections, labels, temperature=settings.temperature, weights=weights)
        return {"loss": loss}
