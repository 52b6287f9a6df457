from .address import open_source as open_source
from .dataset_source import AtomicSource as AtomicSource
from .file_source import CsvSource as CsvSource
from .file_source import JsonLinesSource as JsonLinesSource
from .file_source import ParquetSource as ParquetSource
from .file_source import StdinSource as StdinSource
from .redis_source import RedisSource as RedisSource
from .source import EventSource as EventSource
