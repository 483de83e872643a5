"""How each command is called: its options and its help. Nothing here takes time to import, see `cli.lazy`."""
