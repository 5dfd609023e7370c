"""Values and contracts every other room speaks in. Imports nothing of the project."""
