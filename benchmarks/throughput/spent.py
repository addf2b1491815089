"""Processor time of running processes, by what they are: it tells where the seconds go, and on a
machine where others compute it scatters less than seconds do."""

from collections.abc import Mapping, Sequence

import psutil

from launch import Cluster

Spent = dict[str, float]


class Processes:
    """Groups of processes by name, such as {"leaders": [17, 18], "encoder": [19]}."""

    def __init__(self, groups: Mapping[str, Sequence[int]]) -> None:
        self._groups = {
            name: [psutil.Process(pid) for pid in pids] for name, pids in groups.items()
        }

    def seconds(self) -> Spent:
        """Processor seconds of each group since its processes began."""
        return {name: sum(map(_seconds, each)) for name, each in self._groups.items()}

    def since(self, before: Spent, pictures: int) -> Spent:
        """Processor seconds of each group for each picture."""
        return {name: (now - before[name]) / pictures for name, now in self.seconds().items()}


def of_cluster(cluster: Cluster) -> Processes:
    """The orchestrator, the leaders, and the ranks of each role."""
    groups: dict[str, list[int]] = {"orchestrator": [], "leaders": []}
    for process in cluster.processes:
        role = process["role"]
        groups["orchestrator" if role == "orchestrator" else "leaders"].append(process["pid"])
        if process["rank_pids"]:
            name = "all roles" if "," in role else role
            groups.setdefault(name, []).extend(process["rank_pids"])
    return Processes(groups)


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
