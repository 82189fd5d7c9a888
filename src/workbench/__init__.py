"""Decide how far an image classifier may be trusted, and leave with one validated policy file.

The rooms, in the order in which an image passes them:

    config       what people write: workbench.toml with data set, taxonomy, label maps, goals
    dataset      labelled images: where they come from, how they are split
    prepare      bytes in, honest pixels out, or the reason why not
    features     the local network, its converter, and the store of what it saw
    approaches   every way to classify an image, behind one contract
    runs         ask each approach about each image once; resume; never lose a row
    predictions  the table of scores: what everything after reads
    evaluation   precision and recall, curves, thresholds, certification, the rule over a table
    release      the gate: a draft is tested on the certify split and becomes a policy, or is refused
    report       one self-contained page
    cli          the same steps as commands

and beneath them, free of third-party packages, what production runs:

    records      the nouns
    decision     the one rule
    policy       the file
    jsonlines    predictions in, decisions out

This module stays light: it loads nothing outside the standard library.
"""

from workbench.decision import decide
from workbench.errors import WorkbenchError
from workbench.jsonlines import read_prediction, write_decision, write_prediction
from workbench.policy import read_policy, write_policy
from workbench.records import Decision, Policy, Prediction, Taxonomy

__all__ = [
    "Decision",
    "Policy",
    "Prediction",
    "Taxonomy",
    "WorkbenchError",
    "decide",
    "read_policy",
    "read_prediction",
    "write_decision",
    "write_policy",
    "write_prediction",
]
