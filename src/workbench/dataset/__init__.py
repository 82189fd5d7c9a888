"""Labelled images: where they come from (`sources`), what they are (`images`), how they are split (`splits`)."""
