"""``python -m recbole_signed``: the command line where the console script is not installed."""

from recbole_signed.cli.app import main

if __name__ == "__main__":
    main()
