"""Figures and the PDF: ``python docs/report build``."""

from signed_report.cli import report

from recbole_signed.cli.app import main

main(commands=report)
