"""How much trying again the daemon may do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.failover.budget import RetryBudget


def spend(budget: RetryBudget, now: float, tries: int = 1000) -> int:
    return sum(budget.withdraw(now) for _ in range(tries))


def test_a_quiet_gateway_may_fail_over_freely() -> None:
    budget = RetryBudget()
    assert spend(budget, 50.0) == 100
    assert spend(budget, 55.0) == 0
    assert spend(budget, 60.0) == 100


def test_all_that_a_dying_engine_answered_may_move_on_at_once() -> None:
    budget = RetryBudget()
    for _ in range(64):
        budget.deposit(7.0)
    assert all(budget.withdraw(7.0) for _ in range(64))


def test_a_busy_one_spends_a_fifth_of_its_requests() -> None:
    budget = RetryBudget()
    for _ in range(1000):
        budget.deposit(100.0)
    assert spend(budget, 100.0) == 200
    assert spend(budget, 101.0) == 0
    assert spend(budget, 110.0) == 100  # those requests are too long ago, and so are those retries


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 2000), st.integers(0, 500)), max_size=20))
def test_never_more_than_the_share_or_the_floor(story: list[tuple[float, int, int]]) -> None:
    budget = RetryBudget()
    now = 50.0
    requests: list[int] = []
    retries: list[int] = []
    for pause, came, wanted in story:
        now += pause
        for _ in range(came):
            budget.deposit(now)
        requests += [int(now)] * came
        spent = spend(budget, now, wanted)
        retries += [int(now)] * spent
        lately = [at for at in retries if at > int(now) - 10]
        share = 0.2 * len([at for at in requests if at > int(now) - 10])
        assert not spent or len(lately) <= max(100, share + 1)
