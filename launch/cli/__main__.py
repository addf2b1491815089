"""`python -m launch.cli` is `triptych`, whatever is on the PATH."""

from launch.cli import main

if __name__ == "__main__":
    main()
