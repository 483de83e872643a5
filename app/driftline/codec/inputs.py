"""The inputs of a pipeline in the order of their rank: control, then labels, then events."""

from __future__ import annotations

from driftline.codec.decode import Decoder
from driftline.core.pipeline import Pipeline


class Inputs:
    """Topics by rank, and how each is decoded.

    Attributes:
        topics: topic names; the place in the tuple is the rank by which the merge breaks ties.
        decoders: what makes a record of the bytes, by rank.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        decoder = Decoder(pipeline)
        topics = pipeline.topics
        decoders = [(topics.control, decoder.control), (topics.events, decoder.event)]
        if pipeline.label is not None and topics.labels is not None:
            decoders.insert(1, (topics.labels, decoder.label))
        self.topics = tuple(topic for topic, _ in decoders)
        self.decoders = tuple(decode for _, decode in decoders)
        self.rank = {topic: rank for rank, topic in enumerate(self.topics)}
