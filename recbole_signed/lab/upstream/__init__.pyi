from .export import upstream as upstream
