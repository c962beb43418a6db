"""Cron expressions (protocol section 4.7, the recommended column)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resonate.protocol import cron

FRIDAY = "2024-03-01 12:00:00"  # a Friday in a leap year


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def occurrence(expression: str, after: str = FRIDAY) -> str:
    found = cron.next_occurrence(expression, ms(after))
    assert found is not None
    return datetime.fromtimestamp(found / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("* * * * *", "2024-03-01 12:01:00"),
        ("* * * * * *", "2024-03-01 12:00:01"),
        ("*/10 * * * * *", "2024-03-01 12:00:10"),
        ("30 * * * * *", "2024-03-01 12:00:30"),
        ("0,30 5 12 * * *", "2024-03-01 12:05:00"),
        ("5/20 * * * *", "2024-03-01 12:05:00"),
        ("15-17 * * * *", "2024-03-01 12:15:00"),
        ("0-30/15 * * * *", "2024-03-01 12:15:00"),
        ("0 0 1,15 * *", "2024-03-15 00:00:00"),
        ("0 12 1 * *", "2024-04-01 12:00:00"),
        ("0 0 * JAN,dec *", "2024-12-01 00:00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00:00"),
        ("0 0 29 feb */7", "2032-02-29 00:00:00"),
        ("  0\t0 * * *  ", "2024-03-02 00:00:00"),
    ],
)
def test_lists_ranges_steps_and_names_mean_what_they_mean_in_cron(expression: str, expected: str) -> None:
    assert occurrence(expression) == expected


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("0", "2024-03-03"),
        ("7", "2024-03-03"),
        ("1", "2024-03-04"),
        ("6", "2024-03-02"),
        ("SUN", "2024-03-03"),
        ("Mon", "2024-03-04"),
        ("fri", "2024-03-08"),
        ("MON-WED", "2024-03-04"),
        ("6-7", "2024-03-02"),
    ],
)
def test_zero_and_seven_are_sunday_and_one_is_monday(day: str, expected: str) -> None:
    assert occurrence(f"0 0 * * {day}") == f"{expected} 00:00:00"


def test_if_both_day_fields_are_restricted_either_may_match() -> None:
    assert occurrence("0 0 13 * Fri") == "2024-03-08 00:00:00"
    assert occurrence("0 0 5 * Fri") == "2024-03-05 00:00:00"


def test_a_question_mark_means_any_day_in_the_two_day_fields() -> None:
    assert occurrence("0 0 ? * MON") == "2024-03-04 00:00:00"
    assert occurrence("0 0 5 * ?") == "2024-03-05 00:00:00"
    assert occurrence("0 0 0 ? * ?") == "2024-03-02 00:00:00"


@pytest.mark.parametrize(
    ("alias", "expected"),
    [
        ("@hourly", "2024-03-01 13:00:00"),
        ("@daily", "2024-03-02 00:00:00"),
        ("@midnight", "2024-03-02 00:00:00"),
        ("@weekly", "2024-03-03 00:00:00"),
        ("@monthly", "2024-04-01 00:00:00"),
        ("@yearly", "2025-01-01 00:00:00"),
        ("@annually", "2025-01-01 00:00:00"),
        (" @Daily ", "2024-03-02 00:00:00"),
    ],
)
def test_aliases_stand_for_their_usual_expressions(alias: str, expected: str) -> None:
    assert occurrence(alias) == expected
    assert cron.check(alias) is None


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("", "0 fields"),
        ("   ", "0 fields"),
        ("* * * *", "4 fields"),
        ("0 0 12 * * * 2030", "7 fields"),
        ("60 * * * *", "its minute is out of range"),
        ("60 * * * * *", "its second is out of range"),
        ("* 24 * * *", "its hour is out of range"),
        ("* * 32 * *", "its day of month is out of range"),
        ("* * 0 * *", "its day of month is out of range"),
        ("* * * 13 *", "its month is out of range"),
        ("* * * * 8", "its day of week is out of range"),
        ("0 0 * * FRI-SUN", "its day of week is out of range"),
        ("0 0 * * JAN", "its day of week is out of range"),
        ("*/0 * * * *", "its minute is out of range"),
        ("17-15 * * * *", "its minute is out of range"),
        ("1,,2 * * * *", "its minute is out of range"),
        ("-1 * * * *", "its minute is out of range"),
        ("0 0 30 2 *", "its day of month is out of range or never comes"),
        ("0 0 31 2,4,6 ?", "its day of month is out of range or never comes"),
        ("? * * * *", "minute '?'"),
        ("0 ? 0 * * *", "minute '?'"),
        ("x * * * * *", "second 'X'"),
        ("* MON * * *", "hour 'MON'"),
        ("0 0 L * *", "day of month 'L'"),
        ("0 0 LW * *", "day of month 'LW'"),
        ("0 0 * * 5L", "day of week '5L'"),
        ("0 0 * * 5#2", "day of week '5#2'"),
        ("* * * * MO", "day of week 'MO'"),
        ("٣ * * * *", "minute '٣'"),
        ("@every 5m", "'@every 5m' is none of @hourly"),
        ("@", "'@' is none of @hourly"),
        ("@reboot", "'@reboot' is none of @hourly"),
        ("0," * 300 + "0 * * * *", "it has 609 characters"),
    ],
)
def test_an_unreadable_expression_is_refused_with_the_reason(expression: str, complaint: str) -> None:
    problem = cron.check(expression)

    assert problem is not None
    assert complaint in problem
    assert cron.next_occurrence(expression, 0) is None


def test_an_occurrence_lies_strictly_after_the_instant() -> None:
    minute = ms("2024-03-01 12:01:00")

    assert cron.next_occurrence("* * * * *", minute - 1) == minute
    assert cron.next_occurrence("* * * * *", minute) == minute + 60_000
    assert cron.next_occurrence("* * * * *", minute + 999) == minute + 60_000


def test_asking_twice_gives_the_same_answer_although_expressions_are_remembered() -> None:
    answers = [cron.next_occurrence("*/7 * * * *", ms(FRIDAY)) for _ in range(3)]

    assert len(set(answers)) == 1
    assert cron.next_occurrence("*/7 * * * *", 0) == 7 * 60_000


@pytest.mark.parametrize("after", [253_402_300_799_000, 2**63 - 1])
def test_after_the_last_day_of_the_calendar_nothing_occurs(after: int) -> None:
    assert cron.next_occurrence("* * * * *", after) is None


NUMBERS = st.integers(0, 59).map(str) | st.just("*") | st.integers(1, 30).map("*/{}".format)
HOURS = st.integers(0, 23).map(str) | st.just("*")
DAYS = st.integers(1, 28).map(str) | st.just("*")
MONTHS = st.integers(1, 12).map(str) | st.just("*")
WEEKDAYS = st.integers(0, 7).map(str) | st.just("*")


def _matches(field: str, value: int) -> bool:
    if field.startswith("*/"):
        return value % int(field[2:]) == 0
    return field == "*" or int(field) == value


def _fires(fields: tuple[str, ...], at: datetime) -> bool:
    minute, hour, day, month, weekday = fields
    day_of_week = (at.weekday() + 1) % 7
    by_day, by_weekday = _matches(day, at.day), weekday == "*" or int(weekday) % 7 == day_of_week
    days = by_day or by_weekday if day != "*" and weekday != "*" else by_day and by_weekday
    return days and _matches(minute, at.minute) and _matches(hour, at.hour) and _matches(month, at.month)


@given(fields=st.tuples(NUMBERS, HOURS, DAYS, MONTHS, WEEKDAYS), after=st.integers(0, 4 * 10**12))
def test_the_next_occurrence_matches_and_none_before_it_does(fields: tuple[str, ...], after: int) -> None:
    found = cron.next_occurrence(" ".join(fields), after)

    assert found is not None
    assert found > after
    epoch = datetime(1970, 1, 1)
    assert _fires(fields, epoch + timedelta(milliseconds=found))
    first = after // 60_000 * 60_000 + 60_000
    minutes = range(first, min(found, first + 200 * 60_000), 60_000)  # a window; all of a year takes too long
    assert not any(_fires(fields, epoch + timedelta(milliseconds=at)) for at in minutes)
