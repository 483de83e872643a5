"""Files of rows as the records of a stream."""
