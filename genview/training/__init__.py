"""Pretraining on originals and generated views: data, losses, quality weights, methods, loop, checkpoints."""
