"""SimCLR's two-view NT-Xent, images only (arXiv 2002.05709), with GenView's softmax weights (GenView, eq. 11-14)."""

from torch import Tensor, nn

from genview.config.training import Run
from genview.training.data.batch import Batch
from genview.training.losses import multi_positive_loss
from genview.training.methods.contrastive import Contrastive, projected
from genview.training.methods.heads import mlp
from genview.training.methods.method import Residue, Terms, pair_weights, residue_of, sample_labels
from genview.training.scoring import Scorer


class SimCLR(Contrastive):
    """NT-Xent: a view finds the sample's other view among all views of the batch.

    A row has one positive, so a pair's weight multiplies both of its terms.
    """

    def __init__(self, run: Run, model: nn.Module, scorer: Scorer | None):
        super().__init__(run, model, scorer)
        self.head = mlp(model.num_features, self.settings.projector)

    def losses(self, features: dict[str, Tensor], batch: Batch, epoch: int) -> tuple[Terms, Residue]:
        """NT-Xent of the pairs of features [2, B, D], each sample weighted."""
        views, samples = features["image"].shape[:2]
        projections = projected(self.head, features["image"]).float()
        labels = sample_labels(views, samples, projections.device)
        weights = pair_weights(self, batch)
        pairs = None if weights is None else weights.repeat(views)[:, None].expand(-1, len(projections))
        loss = multi_positive_loss(projections, labels, temperature=self.settings.temperature, weights=pairs)
        return {"loss": loss}, residue_of(features["image"], projections.unflatten(0, (views, samples)), weights)
