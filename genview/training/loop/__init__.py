"""The loop that trains: it knows no method. Steps, checkpoints, stopping, processes, optimisers, what is logged."""
