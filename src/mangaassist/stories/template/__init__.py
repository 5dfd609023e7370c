"""What ``story new`` copies: one folder per kind of model, real code, so that it is checked like the rest."""
