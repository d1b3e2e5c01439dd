"""`python -m headrace` is `headrace`."""

from headrace.app.cli import main

if __name__ == "__main__":
    main()
