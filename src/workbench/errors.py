"""Everything this package raises on purpose.

```
WorkbenchError
├── InputError (ValueError)           what was brought cannot be used          exit 2
│   ├── ConfigError                   workbench.toml, goals, a label map
│   ├── DatasetError                  a folder or manifest of labelled images
│   ├── RunError                      a prediction table, or its join with a data set
│   └── DocumentError                 a policy, draft or run document; carries a JSON pointer
├── IdentityError (ValueError)        a prediction is not of the policy's approach, strict mode only
├── PrerequisiteError (RuntimeError)  something must be done first; says what    exit 2
└── ProviderError (RuntimeError)      an approach could not answer for one image; becomes that image's row
```

Each inherits the package's base and the built-in it resembles, so that both kinds of `except` catch it.
A check that fails (a promise refused, a digest that differs) is a value, not an error.
"""

from __future__ import annotations


class WorkbenchError(Exception):
    """The base of every error that this package raises on purpose."""


class InputError(WorkbenchError, ValueError):
    """What was brought cannot be used; the message names the file, row or field and what to do."""


class ConfigError(InputError):
    """A `workbench.toml`, goals file or label map breaks its form."""


class DatasetError(InputError):
    """A folder or manifest cannot be read as labelled images."""


class RunError(InputError):
    """A prediction table is damaged or does not belong to the data set it is joined with."""


class DocumentError(InputError):
    """A JSON document (policy, draft, run) is not valid. `pointer` is the JSON pointer (RFC 6901) of the place."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(f"{pointer}: {message}" if pointer else message)
        self.pointer = pointer
        self.message = message


class IdentityError(WorkbenchError, ValueError):
    """Strict mode: a prediction comes from another approach, version, preparation or taxonomy."""


class PrerequisiteError(WorkbenchError, RuntimeError):
    """Something has to be done first; the message gives the command."""


class ProviderError(WorkbenchError, RuntimeError):
    """An approach could not answer for one image. `outcome` is the code its row carries."""

    def __init__(self, outcome: str, detail: str) -> None:
        super().__init__(f"{outcome}: {detail}")
        self.outcome = outcome
        self.detail = detail
