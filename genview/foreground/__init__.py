"""From images to foreground ratios and noise levels: encoder, tokens, principal component, scores."""
