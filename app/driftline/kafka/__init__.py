"""All that knows Kafka: clients, topics, errors in plain words."""
