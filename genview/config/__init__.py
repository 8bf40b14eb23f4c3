"""The configuration of a study: one typed block per stage, and the study that holds them."""
