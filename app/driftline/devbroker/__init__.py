"""Brokers that Driftline starts itself, for tests, the demo and development, and the topics of a pipeline.

Two kinds, one shape (`Node`): `embedded` is librdkafka's mock cluster, here in a second with nothing but
pip; `kafka` is a real Apache Kafka node, which needs Java and, once, Maven. Both are child processes that
listen on 127.0.0.1 alone and end when the process that started them ends, however it ends.
"""
