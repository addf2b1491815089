"""A prompt that comes again, through a whole cluster: the same pixels, told in the status."""

from typing import Any

import httpx
import numpy as np

from launch import Cluster
from tests.support.local_cluster import REQUEST, eventually, instance_of

PROMPT = {"prompt": "a prompt of this test alone", **REQUEST}


def report(cluster: Cluster) -> dict[str, Any]:
    return instance_of(cluster, "encoder").get("encodings") or {"hits": 0, "misses": 0}


def test_a_prompt_that_comes_again_is_not_encoded_again(cluster: Cluster) -> None:
    first, other, again = (cluster.generate(**PROMPT, seed=seed)[0] for seed in (1, 2, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    told = eventually(lambda: (now := report(cluster))["hits"] >= 2 and now, "a heartbeat")
    assert told["misses"] >= 1
    assert 0 < told["nbytes"] <= told["limit"]
    page = httpx.get(f"{cluster.url}/metrics").text
    assert 'triptych_encoder_cache_lookups_total{instance="encoder-0",result="hit"}' in page
