"""How good a model is, for whom, under which attack, and whether that is enough to go on."""
