"""What a run is worth on labelled images.

`labelled` joins run and labels; `curves`, `metrics`, `tradeoff`, `confusion` and `distribution` measure; `summary`
holds all of it. `simulate` applies a policy to a whole table, `thresholds` drafts one, `certify` tests its promises.
`intervals` has the exact binomial bounds, `figures` the look that every figure shares.
"""
