from .inter_file import read_columns as read_columns
from .inter_file import read_rows as read_rows
