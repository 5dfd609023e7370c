"""What ``story new`` copies: real code, so that it is checked like the rest."""
