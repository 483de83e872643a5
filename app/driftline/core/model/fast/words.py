"""`BagOfWords`: a text's words in one search.

River yields word by word from a generator. Here the same pattern finds the same words in the same order. Whatever is
not the usual case (a tokenizer of one's own, a pattern with groups, no named feature) is left to River.

Source: river 0.26, `feature_extraction/vectorize.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from river import feature_extraction
from river.feature_extraction.vectorize import tokenize_using_regex_pattern

Transform: TypeAlias = Callable[[Any], Any]


def transform_of(step: Any) -> Transform:
    """What does the same as `step.transform_one`."""
    if type(step) is not feature_extraction.BagOfWords or step.on is None:
        return step.transform_one  # type: ignore[no-any-return]  # River is untyped
    steps = [_found_at_once(one) for one in step.processing_steps]

    def count(features: Any) -> dict[Any, int]:
        words = features
        for one in steps:
            words = one(words)
        return dict(Counter(words))

    return count


def _found_at_once(step: Any) -> Transform:
    if not isinstance(step, partial) or step.func is not tokenize_using_regex_pattern or step.args:
        return step  # type: ignore[no-any-return]  # as above
    pattern = re.compile(step.keywords["pattern"])
    return step if pattern.groups else pattern.findall
