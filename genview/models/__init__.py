"""The models of a study: where they are found, and the small family that ships with the package."""
