"""Which targets are left alone, for how long, and how they come back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.failover.breaker import Admission, Breakers, Judgement, Key, State
from gateway.failover.outcome import MEANING, Mark, Outcome, classify
from gateway.wire.failure import read_error
from tests.failover.play import failure

A = Key("one", 1, "a", 1)
OTHER_MODEL = Key("one", 1, "b", 1)
OTHER_KEY = Key("one", 2, "a", 1)
NEW_SECRET = Key("one", 1, "a", 2)
LOCAL = Key("local", None, "q")
KEYLESS = Key("ollama", None, "q")


def fail(
    breakers: Breakers, key: Key, now: float, *, times: int = 1, outcome: str = "slow", **more: object
) -> None:
    for _ in range(times):
        breakers.record(key, failure(outcome, **more), now)


def state(breakers: Breakers, key: Key, now: float) -> tuple[str, float]:
    judgement = breakers.judge(key, now)
    return judgement.state, round(judgement.wait_s, 6)


def test_what_was_never_asked_is_healthy() -> None:
    breakers = Breakers()
    assert breakers.judge(A, 0) == Judgement(State.HEALTHY)
    assert breakers.judge(A, 0).ready
    assert breakers.admit(A, 0) is Admission.YES
    breakers.release(A)
    assert breakers.cooling(0) == []


def test_five_failures_in_a_row_cool_a_target() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, times=4)
    assert state(breakers, A, 100) == ("healthy", 0)
    fail(breakers, A, 100)
    assert state(breakers, A, 100) == ("cooling", 30)
    judgement = breakers.judge(A, 110)
    assert judgement.reason == "cooling for another 20 s after slow"
    assert (judgement.until, judgement.outcome, judgement.barred, judgement.ready) == (
        130,
        Outcome.SLOW,
        False,
        False,
    )
    assert breakers.admit(A, 110) is Admission.NO
    assert state(breakers, OTHER_MODEL, 110) == state(breakers, OTHER_KEY, 110) == ("healthy", 0)
    assert breakers.cooling(110) == [(A, judgement)]


def test_a_success_between_starts_the_row_again() -> None:
    breakers = Breakers()
    for _ in range(9):
        breakers.record(A, None, 100)
        fail(breakers, A, 100)
    assert state(breakers, A, 100) == ("healthy", 0)  # half is not more than half, and no two in a row


def test_more_than_half_of_a_minute_cools_a_target() -> None:
    breakers = Breakers()
    for second, good in enumerate([True, False, True, False, False]):
        breakers.record(A, None if good else failure("server_fault"), 100.0 + second)
    assert state(breakers, A, 104) == ("cooling", 30)


def test_half_is_not_more_than_half_and_four_are_too_few() -> None:
    breakers = Breakers()
    for good in [False, False, True, False]:
        breakers.record(A, None if good else failure("server_fault"), 100.0)
    assert state(breakers, A, 100) == ("healthy", 0)
    for good in [True, True]:
        breakers.record(A, None if good else failure("server_fault"), 100.0)
    assert state(breakers, A, 100) == ("healthy", 0)


def test_the_minute_passes() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, times=4)
    breakers.record(A, None, 150)
    fail(breakers, A, 165)
    assert state(breakers, A, 165) == ("healthy", 0)


@pytest.mark.parametrize("outcome", [each for each in Outcome if each is not Outcome.OK])
def test_only_faults_of_the_target_count(outcome: Outcome) -> None:
    # D24: five 400s of one client used to shut the target for everybody.
    breakers = Breakers()
    fail(breakers, A, 100, times=5, outcome=outcome)
    cools = MEANING[outcome].mark is not Mark.NOTHING
    assert (breakers.judge(A, 100).state is State.COOLING) is cools


def test_a_stale_connection_is_nobodys_fault() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, times=9, outcome="connect_fault", stale=True)
    assert state(breakers, A, 100) == ("healthy", 0)


def test_one_probe_at_a_time() -> None:
    # D25: of ten concurrent probes ten used to reach the upstream.
    breakers = Breakers()
    fail(breakers, A, 100, times=5)
    due = breakers.judge(A, 130)
    assert (due.state, due.wait_s, due.reason, due.ready) == (State.COOLING, 0, "due for a probe", True)
    assert [breakers.admit(A, 130) for _ in range(10)] == [Admission.PROBE, *[Admission.NO] * 9]
    probed = breakers.judge(A, 131)
    assert (probed.state, probed.ready, probed.barred) == (State.PROBING, False, False)
    assert probed.reason == "another request is trying it right now"
    breakers.release(A)
    assert breakers.admit(A, 131) is Admission.PROBE


def test_a_good_probe_heals() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, times=5)
    breakers.admit(A, 130)
    breakers.record(A, None, 133, started=130)
    assert breakers.admit(A, 133) is Admission.YES
    fail(breakers, A, 133, times=4)
    assert state(breakers, A, 133) == ("healthy", 0)  # all forgiven
    fail(breakers, A, 133)
    assert state(breakers, A, 133) == ("cooling", 30)


def test_a_failed_probe_cools_for_twice_as_long_up_to_five_minutes() -> None:
    breakers = Breakers()
    fail(breakers, A, 0, times=5)
    now, waits = 0.0, []
    for _ in range(25):
        waits.append(breakers.judge(A, now).wait_s)
        now = breakers.judge(A, now).until
        breakers.admit(A, now)
        fail(breakers, A, now)
    assert waits[:6] == [30, 60, 120, 240, 300, 300]
    assert set(waits[6:]) == {300}


@pytest.mark.parametrize(("chance", "wait_s"), [(0.0, 24.0), (0.5, 30.0), (1.0, 36.0)])
def test_cooldowns_are_spread(chance: float, wait_s: float) -> None:
    breakers = Breakers(lambda: chance)
    fail(breakers, A, 100, times=5)
    assert state(breakers, A, 100) == ("cooling", wait_s)


def test_failures_while_it_cools_change_nothing() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, times=5)
    fail(breakers, A, 110, times=50)
    assert state(breakers, A, 110) == ("cooling", 20)


def test_what_was_opened_before_the_cooldown_says_nothing_about_now() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, times=5)
    breakers.record(A, None, 110, started=90)  # a long stream that went well, while nothing new connects
    assert state(breakers, A, 110) == ("cooling", 20)
    breakers.record(A, failure("slow"), 131, started=90)
    assert breakers.judge(A, 131).ready


def test_a_lone_target_heals_before_its_time() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, times=5)
    breakers.record(A, None, 111, started=110)
    assert state(breakers, A, 111) == ("healthy", 0)


# --- told waits ----------------------------------------------------------------------------------------


def test_retry_after_cools_exactly_that_long() -> None:
    breakers = Breakers(lambda: 1.0)
    fail(breakers, A, 100, outcome="rate_limited", retry_after_s=7.0)
    judgement = breakers.judge(A, 100)
    assert (judgement.wait_s, judgement.barred, judgement.outcome) == (7, True, Outcome.RATE_LIMITED)
    assert not breakers.judge(A, 106.9).ready
    assert breakers.judge(A, 107).ready


def test_a_later_cooldown_never_shortens_one_that_runs() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, outcome="rate_limited", retry_after_s=60.0)
    fail(breakers, A, 101, outcome="rate_limited", retry_after_s=1.0)
    fail(breakers, A, 102, outcome="model_missing")
    assert breakers.judge(A, 102).until == 160  # as far as it was told
    assert breakers.judge(A, 161).until == 162  # and as far as is guessed
    fail(breakers, A, 103, outcome="rate_limited", retry_after_s=100.0)
    assert breakers.judge(A, 103).until == 203


def test_a_guess_that_outlasts_what_was_told_binds_nobody() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, outcome="model_missing")
    fail(breakers, A, 100, outcome="rate_limited", retry_after_s=7.0)
    assert breakers.judge(A, 106).barred
    assert breakers.judge(A, 106).outcome is Outcome.RATE_LIMITED
    later = breakers.judge(A, 108)
    assert (later.barred, later.until, later.outcome) == (False, 160, Outcome.MODEL_MISSING)


def test_no_success_ends_what_was_told() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, outcome="rate_limited", retry_after_s=7.0)
    breakers.record(A, None, 102, started=101)
    assert state(breakers, A, 102) == ("cooling", 5)


def test_a_limit_without_a_time_cools_for_ten_seconds_and_bars_nobody() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, outcome="rate_limited")
    assert state(breakers, A, 100) == ("cooling", 10)
    assert not breakers.judge(A, 100).barred


def test_a_retry_after_of_nothing_cools_nothing() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, outcome="rate_limited", retry_after_s=0.0)
    assert state(breakers, A, 100) == ("healthy", 0)


def test_an_overloaded_upstream_that_says_when_is_left_alone_till_then() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, outcome="overloaded", retry_after_s=12.0)
    judgement = breakers.judge(A, 100)
    assert (judgement.wait_s, judgement.barred) == (12, False)


def test_a_full_local_queue_counts_but_cools_no_longer_than_the_pool_says() -> None:
    breakers = Breakers()
    fail(breakers, LOCAL, 100, times=4, outcome="overloaded", retry_after_s=2.0)
    assert state(breakers, LOCAL, 100) == ("healthy", 0)
    fail(breakers, LOCAL, 100, outcome="overloaded", retry_after_s=2.0)
    assert state(breakers, LOCAL, 100) == ("cooling", 2)


def test_a_missing_model_cools_that_one_for_a_minute() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, outcome="model_missing")
    assert state(breakers, A, 100) == ("cooling", 60)
    assert state(breakers, OTHER_MODEL, 100) == ("healthy", 0)


# --- credentials -----------------------------------------------------------------------------------------


def test_a_refused_credential_is_out_for_all_models_until_it_changes() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, outcome="auth")
    for key in (A, OTHER_MODEL):
        judgement = breakers.judge(key, 1e9)
        assert (judgement.barred, judgement.wait_s) == (True, float("inf"))
        assert judgement.reason.startswith("its credential was refused")
        assert breakers.admit(key, 1e9) is Admission.NO
    assert state(breakers, OTHER_KEY, 100) == state(breakers, NEW_SECRET, 100) == ("healthy", 0)
    assert state(breakers, LOCAL, 100) == ("healthy", 0)


def test_a_new_secret_that_is_refused_too_makes_the_old_one_forgotten() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, outcome="auth")
    fail(breakers, NEW_SECRET, 100, outcome="auth")
    assert breakers.judge(NEW_SECRET, 100).barred
    assert len(breakers.dump(100)["credentials"]) == 1


def test_an_unpaid_credential_cools_for_longer_each_time() -> None:
    breakers = Breakers()
    now, waits = 0.0, []
    for _ in range(25):
        fail(breakers, A, now, outcome="billing")
        fail(breakers, A, now, outcome="billing")  # a second request that was under way
        waits.append(breakers.judge(OTHER_MODEL, now).wait_s)
        now = breakers.judge(A, now).until
    assert waits[:5] == [300, 600, 1200, 2400, 3600]
    assert set(waits[5:]) == {3600}


def test_an_unpaid_credential_is_still_the_last_resort() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, outcome="billing")
    judgement = breakers.judge(A, 100)
    assert not judgement.barred
    assert judgement.reason == "its credential is unpaid, and cools for another 300 s"


def test_an_unpaid_credential_does_not_hide_that_a_target_is_barred() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, outcome="billing")
    fail(breakers, A, 100, outcome="rate_limited", retry_after_s=7.0)
    assert breakers.judge(A, 106).barred
    assert not breakers.judge(A, 107).barred
    fail(breakers, OTHER_KEY, 100, outcome="auth")
    fail(breakers, OTHER_KEY, 100, outcome="rate_limited", retry_after_s=7.0)
    assert breakers.judge(OTHER_KEY, 106).wait_s == float("inf")


def test_a_paid_bill_is_noticed_by_the_first_success() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, outcome="billing")
    breakers.record(OTHER_KEY, None, 100)
    breakers.record(LOCAL, None, 100)
    breakers.record(A, None, 110, started=90)  # was opened before
    assert breakers.judge(A, 110).state is State.COOLING
    breakers.record(A, None, 111, started=110)
    assert breakers.judge(A, 111).state is State.HEALTHY


def test_an_unpaid_credential_that_is_then_refused_is_out() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, outcome="billing")
    fail(breakers, A, 100, outcome="auth")
    assert breakers.judge(A, 1e9).barred


def test_a_refusal_without_a_credential_is_looked_at_again_soon() -> None:
    breakers = Breakers()
    fail(breakers, KEYLESS, 100, outcome="auth")
    assert state(breakers, KEYLESS, 100) == ("cooling", 60)
    assert not breakers.judge(KEYLESS, 100).barred


# --- as a failure, kept, bounded ---------------------------------------------------------------------------


def test_what_is_left_alone_has_come_to_something() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, outcome="rate_limited", retry_after_s=7.0)
    told = breakers.judge(A, 100).as_failure()
    assert (told.outcome, told.retry_after_s) == (Outcome.RATE_LIMITED, 7)
    fail(breakers, OTHER_KEY, 100, times=5)
    assert breakers.judge(OTHER_KEY, 100).as_failure().retry_after_s == 30
    fail(breakers, OTHER_KEY, 100, outcome="auth")
    assert breakers.judge(OTHER_KEY, 100).as_failure().retry_after_s is None  # it does not pass by itself


def test_it_survives_a_restart() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, outcome="auth")
    fail(breakers, OTHER_KEY, 100, outcome="billing")
    fail(breakers, LOCAL, 100, times=5)
    fail(breakers, KEYLESS, 100, outcome="rate_limited", retry_after_s=40.0)
    fail(breakers, Key("x", 9, "y", 1), 0, outcome="model_missing")  # long over
    fail(breakers, Key("x", 8, "y", 1), -400, outcome="billing")
    data = json.loads(json.dumps(breakers.dump(110)))
    again = Breakers()
    again.load(data, 5000)
    for key in (A, OTHER_KEY, LOCAL, KEYLESS):
        before, after = breakers.judge(key, 110), again.judge(key, 5000)
        assert (before.state, before.wait_s, before.barred, before.outcome) == (
            after.state,
            after.wait_s,
            after.barred,
            after.outcome,
        )
    assert again.dump(5000) == data
    fail(again, LOCAL, 5030)
    assert again.judge(LOCAL, 5030).wait_s == 60  # it goes on where it was


def test_what_is_known_already_is_newer_than_what_is_loaded() -> None:
    old, new = Breakers(), Breakers()
    for outcome in ("auth", "model_missing"):
        fail(old, A, 100, outcome=outcome)
    new.record(A, None, 100)
    new.load(old.dump(100), 100)
    assert new.judge(A, 100).barred
    old.load({"targets": [], "credentials": []}, 100)
    assert old.judge(A, 100).barred


def test_any_number_of_models_takes_bounded_memory() -> None:
    # The names of models are the clients' choice, so there is no end to them.
    breakers = Breakers(limit=50)
    fail(breakers, A, 100, times=5)
    for number in range(500):
        breakers.record(Key("one", 1, f"m{number}", 1), None, 100)
        assert len(breakers._targets) <= 50
    assert state(breakers, A, 100) == ("cooling", 30)  # healthy ones are forgotten first
    for number in range(500):
        fail(breakers, Key("one", 1, f"n{number}", 1), 100, outcome="model_missing")
        assert len(breakers._targets) <= 50
    assert state(breakers, A, 100) == ("healthy", 0)


STEPS = st.lists(
    st.tuples(
        st.floats(0, 40),
        st.sampled_from(["admit", "release", "ok", *(each for each in Outcome if each is not Outcome.OK)]),
        st.sampled_from([None, 0.0, 5.0, 90.0]),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_one_probe_and_no_call_while_barred(
    steps: list[tuple[float, str, float | None]],
) -> None:
    breakers = Breakers(lambda: 0.5)
    now, probing, told_until = 100.0, False, 0.0
    for pause, what, wait_s in steps:
        now += pause
        before = breakers.judge(A, now)
        match what:
            case "admit":
                admission = breakers.admit(A, now)
                assert bool(admission) == before.ready
                assert not (admission is Admission.PROBE and probing)
                assert now >= told_until or not admission
                probing |= admission is Admission.PROBE
            case "release":
                breakers.release(A)
                probing = False
            case "ok":
                breakers.release(A)
                probing = False
                breakers.record(A, None, now)
            case _:
                breakers.release(A)
                probing = False
                breakers.record(A, failure(what, retry_after_s=wait_s), now)
                if what == Outcome.RATE_LIMITED and wait_s:
                    told_until = max(told_until, now + wait_s)
                if now < before.until < float("inf"):
                    assert not breakers.judge(A, before.until - 0.001).ready
        assert breakers.judge(A, now).barred >= (now < told_until)


def test_a_firewalls_403_bars_no_credential() -> None:
    """One prompt that a firewall did not like shut the upstream for everybody, for good."""
    breakers = Breakers(lambda: 0.5)
    key = Key("openai", 1, "gpt", 1)
    page = read_error(b"<html>Attention required</html>")
    refusal = read_error(b'{"error":{"message":"no access","type":"permission_error"}}')
    breakers.record(key, classify(status=403, error=page, headers={}, now_wall=None), 100.0)
    assert not breakers.judge(key, 101.0).ready
    assert breakers.judge(key, 161.0).ready
    assert breakers.judge(Key("openai", 1, "other", 1), 101.0).ready
    breakers.record(key, classify(status=403, error=refusal, headers={}, now_wall=None), 200.0)
    assert not breakers.judge(Key("openai", 1, "other", 1), 100_000.0).ready


def test_the_version_grows_with_what_is_written_down_and_only_with_that() -> None:
    breakers = Breakers()
    told: list[tuple[int, int]] = [(0, 0)]
    breakers.on_change = lambda: told.append((breakers.version, breakers.marks))

    def grew(*, marks: bool = False) -> bool:
        (before, marks_before), (now, marks_now) = told[0], told[-1]
        del told[:-1]
        assert (now, marks_now) == (breakers.version, breakers.marks)
        assert (marks_now > marks_before) is marks
        return now > before

    for _ in range(100):
        breakers.record(A, None, 100)  # the way of nearly every request
    fail(breakers, A, 100, times=4)
    breakers.record(A, failure("client_fault"), 100)
    assert not grew()
    fail(breakers, A, 100)
    assert grew()
    breakers.record(A, None, 110)
    assert grew()  # it had no choice but this one, and it works
    breakers.record(A, None, 111)
    assert not grew()
    fail(breakers, A, 120, outcome="rate_limited", retry_after_s=9.0)
    assert grew()
    fail(breakers, A, 120, outcome="rate_limited", retry_after_s=3.0)
    assert not grew()  # a shorter one changes nothing
    breakers.admit(A, 130)
    breakers.release(A)
    breakers.record(A, None, 130)
    assert not grew()  # what was written down is over anyway
    fail(breakers, A, 140, outcome="billing")
    assert grew(marks=True)
    fail(breakers, A, 141, outcome="billing")
    assert not grew()
    fail(breakers, A, 142, outcome="auth")
    assert grew(marks=True)
    fail(breakers, A, 143, outcome="auth")
    assert not grew()
    fail(breakers, NEW_SECRET, 144, outcome="billing")
    assert grew(marks=True)
    breakers.record(NEW_SECRET, None, 145)
    assert grew(marks=True)


def test_what_is_pushed_out_while_it_cools_is_a_change() -> None:
    breakers = Breakers(limit=1)
    fail(breakers, A, 100, outcome="rate_limited", retry_after_s=9.0)
    before = breakers.version
    breakers.record(OTHER_MODEL, None, 101)
    assert breakers.version == before + 1
    assert breakers.dump(101)["targets"] == []


def test_everything_that_is_left_alone_is_told_each_for_itself() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, outcome="auth")
    fail(breakers, OTHER_KEY, 100, outcome="billing")
    fail(breakers, OTHER_MODEL, 100, outcome="rate_limited", retry_after_s=20.0)
    fail(breakers, LOCAL, 100, times=5)
    breakers.record(KEYLESS, None, 100)
    assert [(s.backend, s.model, s.credential_id, s.judgement.outcome) for s in breakers.standings(110)] == [
        ("one", None, 1, "auth"),
        ("one", None, 2, "billing"),
        ("one", "b", 1, "rate_limited"),
        ("local", "q", None, "slow"),
    ]
    later = breakers.standings(100 + 3600)
    assert [(s.model, s.judgement.reason) for s in later] == [
        (None, "its credential was refused, and is left alone until it is changed"),
        ("b", "due for a probe"),
        ("q", "due for a probe"),
    ]


def test_a_reset_forgets_what_is_known_of_a_backend_and_nothing_else() -> None:
    breakers = Breakers()
    assert breakers.reset("one") == 0
    assert breakers.version == 0
    for key in (A, OTHER_KEY):
        fail(breakers, key, 100, outcome="auth")
    fail(breakers, OTHER_MODEL, 100, outcome="rate_limited", retry_after_s=20.0)
    fail(breakers, LOCAL, 100, times=5)
    version, marks = breakers.version, breakers.marks
    assert breakers.reset("one", 1) == 2
    assert (breakers.version, breakers.marks) == (version + 1, marks + 1)
    assert breakers.judge(A, 100).ready
    assert breakers.judge(OTHER_MODEL, 100).ready
    assert breakers.judge(OTHER_KEY, 100).barred
    assert breakers.reset("one") == 1
    assert breakers.judge(OTHER_KEY, 100).ready
    assert not breakers.judge(LOCAL, 100).ready
    assert breakers.reset("local") == 1
    assert breakers.standings(100) == []


def test_a_reset_forgets_failures_that_have_not_cooled_yet() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, times=4)
    assert breakers.reset("one") == 0
    fail(breakers, A, 100, times=4)
    assert state(breakers, A, 100) == ("healthy", 0)


def test_a_network_that_is_gone_is_nobodys_fault() -> None:
    breakers = Breakers()
    fail(breakers, A, 100, times=9, outcome="connect_fault", offline=True)
    assert state(breakers, A, 100) == ("healthy", 0)


def test_what_failed_on_the_way_out_of_a_sleep_is_forgiven() -> None:
    breakers = Breakers()
    fail(breakers, A, 50, times=4, outcome="connect_fault")
    fail(breakers, OTHER_MODEL, 99.5, times=5, outcome="connect_fault")
    breakers.forgive(since=99, now=100, slept_s=3600)
    assert breakers.cooling(100) == []
    fail(breakers, A, 109, times=9, outcome="connect_fault")
    assert state(breakers, A, 109) == ("healthy", 0)
    fail(breakers, A, 111, times=4, outcome="connect_fault")
    assert state(breakers, A, 111) == ("healthy", 0), "nothing of before counts"
    fail(breakers, A, 111, outcome="connect_fault")
    assert state(breakers, A, 111) == ("cooling", 30)


def test_a_cooldown_ends_sooner_by_what_its_clock_did_not_count() -> None:
    breakers = Breakers()
    fail(breakers, A, 90, times=5)
    fail(breakers, OTHER_MODEL, 90, outcome="rate_limited", retry_after_s=300)
    breakers.forgive(since=99, now=100, slept_s=15)
    assert state(breakers, A, 100) == ("cooling", 5)
    assert state(breakers, OTHER_MODEL, 100) == ("cooling", 275)
    breakers.forgive(since=200, now=200, slept_s=3600)
    assert breakers.judge(A, 200).ready
    assert breakers.judge(OTHER_MODEL, 200).ready
    assert breakers.admit(A, 200) is Admission.PROBE


def test_what_was_told_and_what_is_local_is_not_forgiven() -> None:
    breakers = Breakers()
    fail(breakers, A, 99.5, outcome="rate_limited", retry_after_s=60)
    fail(breakers, OTHER_KEY, 99.5, outcome="auth")
    fail(breakers, KEYLESS, 90, times=5)
    fail(breakers, LOCAL, 99.5, times=5, outcome="local_fault")
    breakers.forgive(since=99, now=100, slept_s=0)
    assert state(breakers, A, 100) == ("cooling", 59.5)
    assert breakers.judge(OTHER_KEY, 100).barred
    assert state(breakers, KEYLESS, 100) == ("cooling", 20), "it began to cool before the sleep"
    assert state(breakers, LOCAL, 100) == ("cooling", 29.5)
    fail(breakers, NEW_SECRET, 101, times=4, outcome="overloaded", retry_after_s=20)
    assert state(breakers, NEW_SECRET, 101) == ("cooling", 20), "who says when is there"


def test_a_sleep_shortens_an_unpaid_credentials_cooldown() -> None:
    breakers = Breakers()
    fail(breakers, A, 90, outcome="billing")
    breakers.forgive(since=99, now=100, slept_s=200)
    assert state(breakers, A, 100) == ("cooling", 90)
