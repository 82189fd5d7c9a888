"""What people write: `workbench.toml` with data set, taxonomy, label maps, goals; typed and checked at the border."""
