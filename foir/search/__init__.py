"""Search: a query picture and its prompt, encoded, and the pictures of an index ranked by it."""
