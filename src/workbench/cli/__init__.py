"""The command line: one file per group of commands. It holds no rule; it opens, calls and shows."""
