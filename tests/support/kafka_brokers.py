"""Brokers of a Kafka cluster for a test: librdkafka's own, which live in a producer and speak Kafka's protocol."""

import json
import time
from typing import Any

import pytest


class Brokers:
    """A cluster with one broker; a topic has four partitions, and comes to be with its first message."""

    def __init__(self) -> None:
        kafka = pytest.importorskip("confluent_kafka")
        self._producer = kafka.Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "none", "log_level": 0})
        (broker,) = self._producer.list_topics(timeout=10).brokers.values()
        self.address = f"{broker.host}:{broker.port}"

    def send(self, topic: str, *rows: Any, partition: int = 0, timestamp: int | None = None) -> None:
        """Send messages: objects as JSON, bytes as they are, None for none."""
        for row in rows:
            value = row if row is None or isinstance(row, bytes) else json.dumps(row).encode()
            stamp = int(time.time() * 1000) if timestamp is None else timestamp
            self._producer.produce(topic, value, partition=partition, timestamp=stamp)
        assert self._producer.flush(10) == 0

    def close(self) -> None:
        """End the cluster: its connections break, and nobody answers at its address."""
        del self._producer
