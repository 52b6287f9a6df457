from .kafka_source import KafkaSource as KafkaSource
from .redis_source import RedisSource as RedisSource
from .source import EventSource as EventSource
from .source import open_source as open_source
