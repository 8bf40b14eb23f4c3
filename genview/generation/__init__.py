"""Generation: sets of views of every image, made by diffusion pipelines and kept as WebDataset shards."""
