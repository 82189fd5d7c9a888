"""What JupyterLab shows: state lives in plain models, figures come from `evaluation`, widgets mirror both.

`tuner` (thresholds), `explorer` (known against unknown), `gallery` (rows as pictures), `labelling` (what to label).
The browser's part stands in `assets/`, drawn by hand on a canvas; nothing there is fetched from anywhere.
"""
