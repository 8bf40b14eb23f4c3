"""Images, captions, labels: from sources to a manifest, and the drawn scenes of the default study."""
