"""The research report and its figures, and the tables of the README: all made from committed result files alone."""
