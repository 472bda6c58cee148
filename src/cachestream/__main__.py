"""Run the command line: ``python -m cachestream``."""

from cachestream.cli import main

if __name__ == "__main__":
    main()
