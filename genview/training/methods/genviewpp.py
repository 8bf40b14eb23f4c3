"""GenView++: multi-positive contrast among views and with captions, each plain and quality-weighted (four terms)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genview.config.training import Run
from genview.training import quality, schedule
from genview.training.data.batch import Batch
from genview.training.losses import image_text_loss, multi_positive_loss
from genview.training.methods.contrastive import Contrastive, projected
from genview.training.methods.heads import mlp
from genview.training.methods.method import Residue, Step, Terms, residue_of, sample_labels
from genview.training.scoring import Scorer

MAXIMUM_LOGIT_SCALE = math.log(100)


class GenViewPlusPlus(Contrastive):
    """The four terms; heads and towers exist only where some epoch's coefficients need them."""

    def __init__(self, run: Run, model: nn.Module, scorer: Scorer | None):
        super().__init__(run, model, scorer)
        self.head = None
        if any(c.image_image or c.image_image_quality for c in self.settings.coefficients_in_use(run.epochs)):
            self.head = mlp(model.num_features, self.settings.projector)

    def towers(self, views: Tensor, text: Tensor | None, epoch: int) -> dict[str, Tensor]:
        """Features of views [V, M, 3, S, S] and, with an image-text term, captions [M, L]: [V, M, D], [M, D]."""
        features = super().towers(views, text, epoch)
        coefficients = schedule.coefficients(self.settings, epoch)
        if coefficients.image_text or coefficients.image_text_quality:
            features["text"] = self.model.encode_text(text)
        return features

    def losses(self, features: dict[str, Tensor], batch: Batch, epoch: int) -> tuple[Terms, Residue]:
        """The terms (scalars) whose coefficients are not 0 in this epoch, and their weighted sum."""
        coefficients, settings = schedule.coefficients(self.settings, epoch), self.settings
        views, samples = features["image"].shape[:2]
        labels = sample_labels(views, samples, features["image"].device)
        text_labels = labels[:samples]
        scores = None
        if coefficients.image_image_quality or coefficients.image_text_quality:
            scored = batch.views if settings.score_augmented else batch.clean
            scores = self.scorer(scored, chunk=self.run.cached_chunk)
        terms, residue = {}, residue_of(features["image"], features["image"], None)
        if coefficients.image_image or coefficients.image_image_quality:
            projections = projected(self.head, features["image"]).float()
            residue["projections"] = projections.detach().unflatten(0, (views, samples))
        if coefficients.image_text or coefficients.image_text_quality:
            image = self.model.projected(features["image"].flatten(0, 1)).float()
            text = features["text"].float()
            logit_scale = self.model.logit_scale.float().exp()
        with torch.autocast(features["image"].device.type, enabled=False):
            if coefficients.image_image:
                terms["image_image"] = multi_positive_loss(projections, labels, temperature=settings.temperature)
            if coefficients.image_image_quality:
                weights = quality.image_image_weights(
                    scores.tokens, self.scorer.component, labels, gamma=settings.gamma_image_image
                )
                residue["quality"] = weights[weights > 0]
                terms["image_image_quality"] = multi_positive_loss(
                    projections, labels, temperature=settings.temperature, weights=weights
                )
            if coefficients.image_text:
                terms["image_text"] = image_text_loss(image, text, labels, text_labels, logit_scale=logit_scale)
            if coefficients.image_text_quality:
                weights = quality.image_text_weights_of_features(
                    scores.tokens,
                    scores.embeddings,
                    batch.original_background,
                    batch.caption_embedding,
                    self.scorer.component,
                    labels,
                    text_labels,
                    gamma=settings.gamma_image_text,
                )
                terms["image_text_quality"] = image_text_loss(
                    image, text, labels, text_labels, logit_scale=logit_scale, weights=weights
                )
        loss = sum(getattr(coefficients, name) * term for name, term in terms.items())
        return {"loss": loss, **terms}, residue

    @torch.no_grad()
    def after_step(self, step: Step, residues: Sequence[Residue]) -> None:
        """Keep the logit scale between 1 and 100."""
        if self.run.uses_text:
            self.model.logit_scale.clamp_(0, MAXIMUM_LOGIT_SCALE)
