"""Help for whoever writes a pipeline file: profile, leaks, needs, proof."""
