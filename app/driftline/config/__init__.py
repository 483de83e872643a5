"""The pipeline file, and the settings of a deployment.

What a use case is stands in its pipeline file, the same everywhere (`pipeline_file`; `document` reads its YAML). Where
it runs (broker, credentials, folders, ports) comes from environment variables and flags (`setting`). Nothing else reads
either.
"""

from driftline.config.document import read_yaml, yaml_scalar
from driftline.config.pipeline_file import dump_pipeline, load_outline, load_pipeline, read_pipeline
from driftline.config.setting import Settings, load_settings

__all__ = [
    "Settings",
    "dump_pipeline",
    "load_outline",
    "load_pipeline",
    "load_settings",
    "read_pipeline",
    "read_yaml",
    "yaml_scalar",
]
