from .base import Converter as Converter
from .batch import Batch as Batch
from .build import convert as convert
from .columns import number as number
from .options import option as option
from .rated import Rated as Rated
from .registry import register_source as register_source
from .tables import open_table as open_table
