"""Training of the small family on drawn scenes; `python -m genview.models.recipe --help`."""
