"""Evaluation: datasets, frozen features, probes, zero-shot classification, retrieval, duplicates."""
