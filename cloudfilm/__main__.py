"""`python -m cloudfilm` is the console script."""

from cloudfilm.cli import main

main()
