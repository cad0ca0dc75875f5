"""Result cells, published values, and the report that puts them side by side."""
