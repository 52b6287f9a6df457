"""Dislike-aware metrics, and how RecBole's evaluation loop is made to collect what they need."""

# Importing RecBole's evaluator fires the hooks of plugin/hooks.py, which import the modules of this package. If one
# of them were the first to import RecBole, its own hook would meet it half made; here they are whole by then.
import recbole.evaluator  # noqa: F401
