"""Figures, the PDF and the tables of the documentation: ``python docs/report build``."""

from signed_report.cli import report

from recbole_signed.cli.main import main

main(commands=report)
