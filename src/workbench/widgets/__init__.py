"""What JupyterLab shows: state lives in plain models, figures come from `evaluation`, widgets mirror both.

`tuner` (thresholds) and `labelling` (what to label next), both with `pictures`.
The browser's part stands in `assets/`, drawn by hand on a canvas; nothing there is fetched from anywhere.
"""
