"""Driftline: keeps machine-learning models alive in production, with no one watching."""

import os

from driftline.core.deferral import install as _install_deferral

__version__ = "0.3.0.dev2"

# The last bits of a product of matrices depend on how many threads OpenBLAS or MKL divide it among, by default as many
# as there are cores; they are asked once, as numpy is loaded. A shard is one core's work, and a replay elsewhere must
# come to the same.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

_install_deferral()
