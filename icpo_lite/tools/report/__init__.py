"""One HTML file that shows what a run did: curves, the paper's figures, tables, conversations."""
