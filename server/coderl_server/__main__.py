"""`python -m coderl_server` is `coderl`."""

from .cli import main

if __name__ == "__main__":
    main()
