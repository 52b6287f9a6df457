from .base import Converter as Converter
from .base import register_source as register_source
from .batch import Batch as Batch
from .build import convert as convert
from .columns import number as number
from .options import option as option
from .sources.ratings import Rated as Rated
from .tables import open_table as open_table
