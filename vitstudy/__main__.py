"""`python -m vitstudy`."""

from vitstudy.cli import main

if __name__ == "__main__":
    main()
