"""One room for every tower: find weights, look through a frozen encoder, build one to be trained, save it."""
