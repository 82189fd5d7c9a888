"""Ask an approach about a data set: what it would cost, the run itself, and the answers that are kept."""
