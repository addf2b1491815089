"""Predicted seconds of requests, by role and shape, learned from what instances report."""

from orchestrator.core.attempts import Attempt
from orchestrator.core.instances import Post
from orchestrator.core.requests import Request
from transfer.costs import STRETCH, WEIGHT, CostModel, Workload, workload
from transfer.messages import Inputs, ModelInfo, Role, StageReport

SHARES: frozenset[Role] = frozenset({"denoiser", "monolithic"})  # run forwards for several
HOPED = 0.75  # what company is thought to save, until it was tried: a quarter
ALONE, COMPANY = 1, 2  # batches, as far as they can be seen from here
PACES = (0.1, 10.0)  # slower and faster instances are not believed


class Forecast:
    """One model of costs for all roles; each instance's own pace stands beside it (`Post.pace`)."""

    def __init__(self) -> None:
        self._costs = CostModel()

    @staticmethod
    def works(
        route: tuple[Role, ...], inputs: Inputs, model: ModelInfo | None
    ) -> dict[Role, Workload]:
        """What a request asks of each role."""
        return {role: workload(role, inputs, model) for role in route}

    def seconds(self, attempt: Attempt, post: Post) -> float:
        """What the stage would take there, with those that are there."""
        work = attempt.request.works[post.role]
        if post.role not in SHARES or work.shape not in post.shapes:
            return self._costs.seconds(work, ALONE)
        if self._costs.measured(work.shape, COMPANY):
            return self._costs.seconds(work, COMPANY)
        return HOPED * self._costs.seconds(work, ALONE)

    def due(self, request: Request) -> float:
        """Whoever comes later than this does not go before it, however short: the shortest first,
        with ageing."""
        seconds = sum(self._costs.seconds(work) for work in request.works.values())
        return request.submitted + STRETCH * seconds

    def learn(self, attempt: Attempt, post: Post, report: StageReport) -> None:
        """What the stage took, and so how fast the instance is."""
        work = attempt.request.works[post.role]
        seconds = (report.busy_s or report.compute_s) / max(1, report.steps)
        batch = COMPANY if attempt.company else ALONE
        if self._costs.measured(work.shape, batch) and seconds > 0.0:
            ratio = seconds / self._costs.step(work.shape, batch)
            pace = post.pace + WEIGHT * (min(ratio, PACES[1]) - post.pace)
            post.pace = max(PACES[0], pace)
        self._costs.learn(work.shape, seconds, batch)
