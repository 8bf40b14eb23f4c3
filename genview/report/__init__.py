"""The pictures and tables of a study, and the differences between two studies."""
