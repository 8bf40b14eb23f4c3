"""Recipes that made what ships with the package; no study runs them."""
