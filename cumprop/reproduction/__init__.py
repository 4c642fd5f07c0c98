"""The claims of the paper, the results of this code beside them, and its speed."""
