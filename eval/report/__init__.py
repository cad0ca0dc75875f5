"""Result cells, published values, and the report that compares them."""
