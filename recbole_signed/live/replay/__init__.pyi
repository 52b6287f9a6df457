from .summary import summarise as summarise
