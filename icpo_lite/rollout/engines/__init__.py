"""Ways to sample replies; `table` lists them."""
