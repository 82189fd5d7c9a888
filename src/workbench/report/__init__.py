"""What a person reads at the end: `page` writes one HTML file, from `verdict` (the words), `plots` and `mistakes`."""
