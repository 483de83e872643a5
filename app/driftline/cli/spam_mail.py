"""The spam demo's stream: short messages, a fifth of them spam, whose kind changes part way.

Words are made from syllables. Ham is written in common words; spam in a few words of its own among them, with a number
to call. Then another kind of spam comes, in words that no one has seen: until users report it, only the words show it.
Made from a seed, so that every run sees the same messages; simulated, and simple, so that the change is known exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from random import Random

from driftline.ingest.table import Sample

PIPELINE = """\
# Is a message spam? Reports of users answer later. As `driftline init` writes it for texts.
pipeline: {name}
task: binary
seed: 42
topics: {{events: {name}.messages, labels: {name}.reports}}
delivery: {delivery}
event:
  id: message_id
  features:
    text: text
label: {{id: message_id, value: is_spam, positive: true, wait: 7d}}
model: |
  BagOfWords(on='text', tokenizer_pattern=r'[^\\W\\d_]+|\\d|[^\\w\\s]', ngram_range=(1, 2))
  | FeatureHasher(n_features=16384) | LogisticRegression(optimizer=AdaGrad(0.1))
metrics: [F1, Accuracy, LogLoss]
drift:
  error: ADWIN(delta=0.002)
  features: {{text: ADWIN(delta=0.05)}}     # of other words than before: before any label comes
"""

STEP_MS = 1_000
SPAM_SHARE = 0.2
_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstv" for vowel in "aeiou"]
_HAM, _SPAM, _NEW = 1_500, 120, 400


def messages(count: int, change_at: int, start_ms: int, seed: int = 7) -> Iterator[Sample]:
    """Messages with the truth about them, one every `STEP_MS` of event time.

    Args:
        count: how many.
        change_at: index of the first message of the time in which spam is of the new kind.
        start_ms: event time of the first.
    """
    random = Random(seed)
    ham, spam, new = (_words(random, size) for size in (_HAM, _SPAM, _NEW))
    often = list(accumulate(1 / (rank + 3) for rank in range(_HAM)))
    for index in range(count):
        is_spam = random.random() < SPAM_SHARE
        words = random.choices(ham, cum_weights=often, k=random.randint(6, 14))
        if is_spam:
            words += random.choices(spam if index < change_at else new, k=random.randint(6, 12))
            words += [f"0{random.randrange(10**9)}"] if index < change_at else []
            random.shuffle(words)
        message = {"message_id": f"m{index:06d}", "text": " ".join(words)}
        yield Sample(message["message_id"], message, is_spam, start_ms + index * STEP_MS)


def _words(random: Random, size: int) -> list[str]:
    return ["".join(random.choices(_SYLLABLES, k=random.randint(2, 4))) for _ in range(size)]
