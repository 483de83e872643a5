"""What River does, in fewer calls and with the same bits."""
