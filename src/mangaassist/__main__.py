"""`python -m mangaassist` is the `mangaassist` command."""

from mangaassist.cli.main import main

main()
