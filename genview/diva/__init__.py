"""DIVA: a frozen diffusion model teaches an image tower what its embedding leaves out (arXiv 2407.20171).

``condition`` turns an image tower's tokens into what the diffusion model is conditioned on, ``teacher`` is that model,
``loss`` is its error.
"""
