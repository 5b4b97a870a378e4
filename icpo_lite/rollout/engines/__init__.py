"""Ways to sample replies; `registry` lists them."""
