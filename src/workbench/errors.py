"""Everything this package raises on purpose.

```
WorkbenchError
├── InputError (ValueError)           what was brought cannot be used          exit 2
│   ├── ConfigError                   workbench.toml, goals, a label map
│   ├── DatasetError                  a folder or manifest of labelled images
│   ├── RunError                      a prediction table, or its join with a data set
│   │   └── BudgetError               the next question could cost more than is left    exit 1
│   └── DocumentError                 a policy, draft or run document; carries a JSON pointer
├── IdentityError (ValueError)        a prediction is not of the policy's approach, strict mode only
├── PrerequisiteError (RuntimeError)  something must be done first; says what    exit 2
│   └── CredentialsError              a service does not know who asks; ends a run, what was answered is kept
└── ProviderError (RuntimeError)      an approach could not answer for one image; becomes that image's row
    └── ServiceBusyError              it may answer later: whoever runs the approach asks again
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


class BudgetError(RunError):
    """The worst case of the next question does not fit into what is left of the budget; answers so far are kept."""


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


class CredentialsError(PrerequisiteError):
    """A service was asked without credentials, or with ones that it does not take (any more)."""


class ProviderError(WorkbenchError, RuntimeError):
    """An approach could not answer for one image.

    outcome   the code its row carries, one of `records.PROVIDER_OUTCOMES`
    detail    in words; never a credential
    cost_usd  what the attempt cost all the same
    """

    def __init__(self, outcome: str, detail: str, cost_usd: float = 0.0) -> None:
        super().__init__(f"{outcome}: {detail}")
        self.outcome = outcome
        self.detail = detail
        self.cost_usd = cost_usd


class ServiceBusyError(ProviderError):
    """A service did not answer, and may if it is asked again; `ask` itself never asks again.

    throttled    asked too fast (HTTP 429, a throttling code); not billed
    retry_after  seconds that the service wants to be left alone; None if it does not say
    billed       the attempt may have been billed although no answer came, as after a timeout
    """

    def __init__(
        self, detail: str, *, throttled: bool = False, retry_after: float | None = None, billed: bool = False
    ) -> None:
        super().__init__("provider_error", detail)
        self.throttled = throttled
        self.retry_after = retry_after
        self.billed = billed
