"""Built-in stories, one folder each; the folder is the registration (see :mod:`.discovery`)."""
