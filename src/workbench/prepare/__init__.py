"""Bytes in, honest pixels out: upright, sRGB, free of metadata, fitted to an approach; or the reason why not."""
