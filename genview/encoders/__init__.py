"""Everything about encoders: find weights, run a frozen encoder, build one to be trained, save it."""
