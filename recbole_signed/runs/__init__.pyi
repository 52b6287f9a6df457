from .comparison import compare as compare
from .provenance import data_sha256 as data_sha256
from .rows import RowStore as RowStore
from .rows import RunRow as RunRow
from .runner import run as run
from .spec import TableSpec as TableSpec
from .spec import table_settings as table_settings
