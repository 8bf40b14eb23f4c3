"""Training of the small family on drawn scenes; `python -m recipes.small_models --help`."""
