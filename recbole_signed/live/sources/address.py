"""Which source of events a path or an address means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_signed.errors import UsageError
from recbole_signed.live.sources.file_source import AtomicSource, CsvSource, JsonLinesSource, ParquetSource, StdinSource
from recbole_signed.live.sources.kafka_source import KafkaSource
from recbole_signed.live.sources.redis_source import RedisSource
from recbole_signed.live.sources.source import EventSource

STREAMS: dict[str, type[RedisSource | KafkaSource]] = {
    "redis": RedisSource,
    "rediss": RedisSource,
    "kafka": KafkaSource,
}
"""The streams that an address can mean, by its scheme."""


def open_source(address: str, **options: Any) -> EventSource:
    """Open the source that an address means.

    ``-`` is standard input (JSON lines); ``redis://host:port/db?stream=S&group=G`` a Redis stream;
    ``kafka://host:port/TOPIC?group=G`` a Kafka topic; a folder a data set of atomic files; a file what its suffix says:
    ``.jsonl``, ``.ndjson``, ``.csv``, ``.tsv``, ``.parquet``, ``.inter``.

    Raises:
        UsageError: no such kind of source, or no such file.
    """
    if address == "-":
        return StdinSource(**options)
    stream = STREAMS.get(address.partition("://")[0]) if "://" in address else None
    if stream is not None:
        return stream.of_address(address, **options)
    path = Path(address)
    if path.is_dir() or path.suffix == ".inter":
        return AtomicSource(path, **options)
    if path.suffix in (".jsonl", ".ndjson"):
        return JsonLinesSource(path, **options)
    if path.suffix in (".csv", ".tsv"):
        return CsvSource(path, separator="\t" if path.suffix == ".tsv" else ",", **options)
    if path.suffix == ".parquet":
        return ParquetSource(path, **options)
    raise UsageError(
        f"'{address}' is not a source of events; give a .jsonl, .csv, .tsv, .parquet or .inter file, a data set "
        "folder, redis://..., kafka://... or - for standard input."
    )
