"""One image at a time, as a service gets them: the same way as in a run, and so the same decisions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from workbench.approaches.base import Approach
from workbench.decision import decide
from workbench.errors import ConfigError, RunError
from workbench.records import Decision, Policy, Prediction
from workbench.runs.answers import UNOBSERVED, describe_origin
from workbench.runs.asking import asker_for
from workbench.runs.cache import AnswerCache
from workbench.runs.latencies import Latencies, LatencyCounts
from workbench.runs.limits import USUAL, Limits
from workbench.runs.pipeline import Pipeline, Row
from workbench.runs.progress import say


class Realtime:
    """Classifies and decides image by image; a context manager, usable from any number of threads.

    An image gets the prediction that `classify` would give it in a run, and the decision that follows from it. A
    picture that several threads bring at once is asked about once. What failed is asked again when it comes again.

    approach  What is asked.
    cache     Where answers are kept and looked up; None keeps nothing.
    policy    What decides; None classifies only.
    limits    Pace, budget (for all images together) and time for one image; for a service alone.
    lacks     Says what is missing to ask (`Service.lacks`); asked before the first question.
    strict    A prediction of another approach, version, preparation or taxonomy than the policy's raises IdentityError;
              otherwise it goes to review.

    A service that must be switched on is switched on before the first question, and off by `close`.

    ```python
    with AnswerCache(path) as cache, Realtime(approach, cache, read_policy(Path("policy.json"))) as realtime:
        decision = realtime.decide(data, "0007.png")
        realtime.latencies()
    ```
    """

    def __init__(
        self,
        approach: Approach,
        cache: AnswerCache | None = None,
        policy: Policy | None = None,
        limits: Limits = USUAL,
        lacks: Callable[[], str] = str,
        strict: bool = False,
    ) -> None:
        self.approach = approach
        self.policy = policy
        self._strict = strict
        self._counts = LatencyCounts()
        self._closing = threading.Lock()
        self._closed = False
        self._stack = ExitStack()
        self._asker = self._stack.enter_context(asker_for(approach, limits, lacks, say))
        self._pipeline = Pipeline(approach, cache, self._asker, remembers=False)

    def classify(self, data: bytes, image_id: str) -> Prediction:
        """What a run would say of an image file with these bytes. A bad image is a prediction with the reason.

        Raises RunError where the cache cannot be used, an answer comes from another model version, or the approach
        breaks down; BudgetError where the next call might not fit into the budget; PrerequisiteError where something is
        missing, CredentialsError where the service does not take the credentials. The next image is tried all the same.
        """
        started = time.perf_counter()
        row = self._row(data, image_id)
        self._counts.add(row.outcome, row.cached, (time.perf_counter() - started) * 1000)
        origin = self._pipeline.origin
        if origin.model_version == UNOBSERVED and self.policy is not None:
            # nothing has answered yet, so no version can be wrong: in a run this row has the version of the others
            origin = describe_origin(self.approach, self.policy.origin.model_version)
        return Prediction(image_id, origin, row.outcome, row.scores, row.detail)

    def decide(self, data: bytes, image_id: str) -> Decision:
        """What to do with an image file with these bytes.

        Raises what `classify` raises, ConfigError without a policy, and IdentityError if `strict`.
        """
        if self.policy is None:
            raise ConfigError(f"{self.approach.name}: nothing decides: give Realtime a policy (`read_policy`)")
        return decide(self.classify(data, image_id), self.policy, strict=self._strict)

    def latencies(self) -> Latencies:
        """How long the images so far took, from bytes to prediction, failed ones included."""
        return self._counts.read()

    def remark(self) -> str:
        """What was spent so far, and how many calls are under way; "" for an approach of this machine."""
        return self._asker.remark()

    def close(self) -> None:
        """Wake who waits for a turn, and switch off what was switched on. Harmless the second time."""
        with self._closing:
            self._closed = True
            self._asker.stop()
            self._stack.close()

    def _row(self, data: bytes, image_id: str) -> Row:
        closed = RunError(f"{self.approach.name}: closed; nothing was asked about {image_id!r}")
        if self._closed:
            raise closed
        try:
            return self._pipeline.classify_bytes(image_id, data)
        except CancelledError:
            raise closed from None

    def __str__(self) -> str:
        return "\n".join(part for part in (self.approach.name, self.remark(), str(self.latencies())) if part)

    def _repr_html_(self) -> str:
        return self.latencies()._repr_html_()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
