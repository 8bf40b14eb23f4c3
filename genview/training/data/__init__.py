"""What a training run reads: samples, views, augmentation, chance, precomputed features."""
