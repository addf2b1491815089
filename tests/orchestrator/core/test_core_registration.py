"""Who may register, which place and epoch it gets, and what registering again means."""

from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.core.view import InstanceView
from tests.support.bench import MODEL, Bench, Scripted, register
from transfer.messages import (
    ErrorInfo,
    Heartbeat,
    PoolAddress,
    Push,
    PushFailed,
    RankInfo,
    Refused,
    RegisterAgain,
    Replaced,
    Speed,
    StateChanged,
    Welcome,
    Work,
)


def _denoisers(bench: Bench) -> list[InstanceView]:
    return bench.machine.view().roles["denoiser"]


def test_welcome_tells_epoch_and_heartbeat(bench: Bench) -> None:
    leader = bench.join("encoder-0", "encoder")
    assert leader.inbox == [Welcome("encoder-0", 1, 1.0)]
    assert leader.seen.state == "ready"


def test_instance_whose_ranks_are_not_up_is_starting(bench: Bench) -> None:
    leader = bench.join("encoder-0", "encoder", ranks=[RankInfo(0, 1, "starting")])
    assert leader.seen.state == "starting"
    assert bench.machine.missing() == ["encoder", "denoiser", "decoder"]
    leader.say(StateChanged(leader.epoch, "ready", "loaded", [RankInfo(0, 1, "ready")]))
    assert leader.seen.state == "ready"
    assert leader.seen.ranks[0].state == "ready"


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"roles": ["monolithic", "encoder"]}, "monolithic"),
        ({"roles": []}, "roles"),
        ({"roles": ["denoiser", "denoiser"]}, "twice"),
        ({"capacity": 0}, "capacity"),
        ({"capacity": 10**9}, "capacity"),
        ({"pool": PoolAddress(0, 1024, 0)}, "slots"),
        ({"pool": PoolAddress(8, 0, 0)}, "slots"),
        ({"pool": PoolAddress(2**40, 1024, 0)}, "allowed"),
        ({"name": ""}, "name"),
        ({"name": "x" * 1000}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"endpoint": ""}, "endpoint"),
        ({"last_epoch": -5}, "negative"),
    ],
)
def test_bad_registration_is_refused_with_the_reason(
    bench: Bench, changes: dict[str, Any], reason: str
) -> None:
    changes = dict(changes)
    name = changes.pop("name", "x")
    leader = bench.join(name, "denoiser", connection=b"c", **changes)
    assert reason in leader.take(Refused).reason
    assert _denoisers(bench) == []


def test_other_components_are_named(bench: Bench) -> None:
    """Whose fingerprint differs, and where that comes from."""
    vae = Replaced("vae", "tiny", "1")
    bench.join("encoder-0", "encoder", model=replace(MODEL, fingerprint="a", replaced=[vae]))
    for replaced, told in [
        ([], "another vae (the model's own, not that of tiny)"),
        ([Replaced("vae", "tiny", "2")], "another vae (that of tiny, not that of tiny)"),
        ([vae, Replaced("unet", "b", "1")], "another unet (that of b, not the model's own)"),
        ([Replaced("vae", "elsewhere", "1")], "all instances of a model must have the same"),
    ]:
        other = replace(MODEL, fingerprint="b", replaced=replaced)
        leader = bench.join("decoder-0", "decoder", model=other)
        reason = leader.take(Refused).reason
        assert told in reason
        assert ("--component" in reason) == ("another" in told)


def test_t13_second_instance_under_a_live_name_is_refused(bench: Bench) -> None:
    first = bench.join("denoiser-0", "denoiser")
    other = bench.join("denoiser-0", "denoiser", incarnation="other", connection=b"c2")
    assert "denoiser-0 belongs to a live instance" in other.take(Refused).reason
    assert first.seen.epoch == 1


def test_live_endpoint_under_another_name_is_refused(bench: Bench) -> None:
    bench.join("a", "denoiser", endpoint="tcp://h:1")
    other = bench.join("b", "denoiser", endpoint="tcp://h:1")
    assert "belongs to the live instance a" in other.take(Refused).reason


def test_f17_another_model_under_the_name_of_a_live_one_is_refused(bench: Bench) -> None:
    bench.join("encoder-0", "encoder")
    stranger = replace(MODEL, fingerprint="beef")
    reason = bench.join("denoiser-0", "denoiser", model=stranger).take(Refused).reason
    for part in ("encoder-0", "denoiser-0", "demo", "f00d", "beef", "--model-name"):
        assert part in reason


def test_another_model_may_take_the_name_when_nobody_is_left(bench: Bench) -> None:
    encoder = bench.join("encoder-0", "encoder")
    bench.end(encoder)
    stranger = replace(MODEL, fingerprint="beef")
    assert bench.join("encoder-0", "encoder", model=stranger, incarnation="2").take(Welcome)
    assert bench.machine.models == [stranger]


def test_full_house() -> None:
    bench = Bench(max_instances=1)
    bench.join("a", "encoder")
    assert "allowed" in bench.join("b", "encoder").take(Refused).reason


def test_a_connection_has_one_instance(bench: Bench) -> None:
    leader = bench.join("a", "encoder")
    leader.say(register("b", "encoder"))
    assert "belongs to a" in leader.take(Refused).reason


# ---------------------------------------------------------------- registering again


def test_t7_unknown_connection_is_told_to_register_and_keeps_its_epochs(bench: Bench) -> None:
    """What a restarted orchestrator sees."""

    leader = Scripted(bench, register("encoder-0", "encoder", last_epoch=7), b"c")
    bench.scripted[b"c"] = leader
    leader.say(Heartbeat(7))
    assert leader.take(RegisterAgain)
    leader.say(leader.info)
    assert leader.epoch == 8


def test_epochs_of_a_name_grow_over_incarnations(bench: Bench) -> None:
    first = bench.join("encoder-0", "encoder")
    bench.end(first)
    second = bench.join("encoder-0", "encoder", incarnation="2", connection=b"c2")
    assert second.epoch == 2


def test_registration_that_is_repeated_before_the_welcome_came_changes_nothing(
    bench: Bench,
) -> None:
    encoder, *_ = bench.trio()
    bench.submit("a")
    encoder.say(encoder.info)
    assert encoder.epoch == 1
    assert bench.count("dropped_duplicate_register") == 1
    assert not bench.results["a"]


def test_same_incarnation_on_a_new_connection_gets_a_new_epoch_and_its_work_fails(
    bench: Bench,
) -> None:
    encoder, denoiser, _ = bench.trio()
    bench.submit("a")
    work = encoder.take(Work)
    encoder.connection = b"new"
    bench.scripted[b"new"] = encoder
    encoder.register()
    assert encoder.epoch == 2
    assert bench.error("a").kind == "instance_lost"
    # one more registration may have overtaken this one: its first word tells
    assert denoiser.seen.slots.quarantined == 1
    encoder.say(Heartbeat(2))
    assert denoiser.seen.slots.quarantined == 0
    encoder.delivers(work, epoch=1)
    assert bench.count("dropped_stale_epoch") == 1
    bench.assert_home()


def test_what_may_still_land_stays_closed_over_a_registration(bench: Bench) -> None:
    encoder, denoiser, _ = bench.trio()
    bench.submit("a")
    work = encoder.take(Work)
    encoder.push_fails(work, work.grant, may_land=True)
    encoder.connection = b"new"
    encoder.register()
    encoder.say(Heartbeat(2))
    assert denoiser.seen.slots.quarantined == 1
    bench.do_leave(encoder, 2)
    assert denoiser.seen.slots.quarantined == 0


def test_write_that_failed_while_nobody_listened_is_told_with_the_registration(
    bench: Bench,
) -> None:
    encoder, denoiser, _ = bench.trio()
    bench.submit("a")
    work = encoder.take(Work)
    encoder.connection = b"new"
    encoder.register(may_land=[work.grant.generation])
    encoder.say(Heartbeat(2))
    assert denoiser.seen.slots.quarantined == 1
    bench.do_leave(encoder, 2)
    assert denoiser.seen.slots.quarantined == 0


def test_receiver_that_comes_back_has_its_old_memory(bench: Bench) -> None:
    """The encoder may still write into slots that the denoiser had before it lost touch."""
    encoder, denoiser, _ = bench.trio(slots=2)
    bench.submit("a")
    work = encoder.take(Work)
    denoiser.connection = b"new"
    bench.scripted[b"new"] = denoiser
    denoiser.register()
    assert denoiser.seen.slots.quarantined == 1
    encoder.delivers(work)  # into memory that nobody waits for any more
    assert denoiser.seen.slots.quarantined == 0
    push = encoder.take(Push)
    assert (push.held, push.grant.receiver_epoch) == (1, 2)
    bench.cancel("a")
    encoder.aborted(work, released=push.grant.generation)
    bench.assert_home()


def test_other_pool_of_the_same_incarnation_is_refused(bench: Bench) -> None:
    denoiser = bench.join("denoiser-0", "denoiser", slots=8)
    denoiser.connection = b"new"
    bench.scripted[b"new"] = denoiser
    denoiser.register(pool=PoolAddress(4, 1024, 4096))
    assert "another pool" in denoiser.take(Refused).reason


# ---------------------------------------------------------------- places


def test_declared_endpoints_hold_their_places() -> None:
    bench = Bench(declared={"denoiser": ["tcp://one:1", "tcp://two:1"]})
    bench.join("late", "denoiser", endpoint="tcp://late:1")
    bench.join("b", "denoiser", endpoint="tcp://two:1")
    bench.join("a", "denoiser", endpoint="tcp://one:1")
    assert [(x.name, x.order) for x in _denoisers(bench)] == [("a", 0), ("b", 1), ("late", 2)]


@pytest.mark.parametrize("back", [("b", "tcp://else:9"), ("other", "tcp://b:1")])
def test_place_is_kept_by_name_and_by_endpoint(bench: Bench, back: tuple[str, str]) -> None:
    for name in "abc":
        bench.join(name, "denoiser", endpoint=f"tcp://{name}:1")
    bench.end(bench.scripted[b"b"])
    name, endpoint = back
    bench.join(name, "denoiser", endpoint=endpoint, incarnation="2", connection=b"b2")
    assert [(x.name, x.order) for x in _denoisers(bench)] == [("a", 0), (name, 1), ("c", 2)]


def test_places_of_those_who_are_gone_are_forgotten_in_time() -> None:
    bench = Bench(max_places=5)
    stays = bench.join("stays", "denoiser")
    for i in range(100):
        guest = bench.join(f"guest-{i}", "denoiser")
        bench.end(guest)
    last = bench.join("last", "denoiser")
    places = bench.model.rosters["denoiser"].places
    assert len(places) <= 12
    assert stays.seen.order == 0
    assert last.seen.order == len(places) - 1


def test_several_roles_in_one_instance(bench: Bench) -> None:
    both = bench.join("both", "encoder", "decoder")
    bench.join("denoiser-0", "denoiser")
    bench.submit("a")
    assert both.take(Work).role == "encoder"
    roles = bench.machine.view().roles
    assert [x.name for x in roles["encoder"]] == [x.name for x in roles["decoder"]] == ["both"]
    assert (roles["encoder"][0].in_flight, roles["decoder"][0].in_flight) == (1, 0)


def test_push_failed_of_an_old_epoch_is_dropped(bench: Bench) -> None:
    encoder, *_ = bench.trio()
    error = ErrorInfo("transfer_failed", "late")
    encoder.say(PushFailed(0, "a", 1, "encoder", 1, False, 100, error))
    assert bench.count("dropped_stale_epoch") == 1


# ---------------------------------------------------------------- speed


def _fast(**changes: Any) -> Any:
    return replace(MODEL, speed=Speed(**changes), step_caches=["first_block"])


def test_all_that_denoise_need_the_same_flags(bench: Bench) -> None:
    bench.join("denoiser-0", "denoiser", model=_fast())
    bench.join("encoder-0", "encoder")  # which has none
    other = bench.join("denoiser-1", "denoiser", model=_fast(compile=True))
    reason = other.take(Refused).reason
    assert "denoiser-1 denoises with dtype=auto, compile" in reason
    assert "denoiser-0 with dtype=auto;" in reason
    whole = bench.join("whole", "monolithic", model=_fast(dtype="bfloat16"))
    assert "dtype=bfloat16" in whole.take(Refused).reason
    assert bench.join("denoiser-2", "denoiser", model=_fast()).take(Welcome)


def test_flags_change_when_those_with_the_old_ones_drain(bench: Bench) -> None:
    bench.join("denoiser-0", "denoiser", model=_fast())
    bench.drain("denoiser-0")
    assert bench.join("denoiser-1", "denoiser", model=_fast(quantize="int8")).take(Welcome)
    assert bench.machine.model("demo") == _fast(quantize="int8")


def test_a_denoiser_comes_back_with_other_flags(bench: Bench) -> None:
    first = bench.join("denoiser-0", "denoiser", model=_fast())
    bench.end(first)
    again = bench.join("denoiser-0", "denoiser", model=_fast(compile=True), incarnation="2")
    assert again.take(Welcome)


def test_the_model_has_the_speed_of_those_that_denoise(bench: Bench) -> None:
    bench.join("encoder-0", "encoder")
    assert bench.machine.model("demo") == MODEL
    bench.join("denoiser-0", "denoiser", model=_fast(compile=True))
    bench.join("decoder-0", "decoder")
    assert bench.machine.model("demo") == _fast(compile=True)


def test_an_instance_that_warms_up_gets_no_work(bench: Bench) -> None:
    bench.join("encoder-0", "encoder")
    bench.join("decoder-0", "decoder")
    denoiser = bench.join("denoiser-0", "denoiser", ranks=[RankInfo(0, 1, "starting")])
    denoiser.say(StateChanged(denoiser.epoch, "warming", "registered", denoiser.info.ranks))
    assert denoiser.seen.state == "warming"
    assert bench.machine.missing() == ["denoiser"]
    denoiser.say(StateChanged(denoiser.epoch, "ready", "warm", [RankInfo(0, 1, "ready")]))
    assert bench.machine.missing() == []
