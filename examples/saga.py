"""Saga: a trip of three bookings, undone step by step when one of them fails.

Each booking that succeeded leaves its compensation behind. When a later one fails, the
compensations run in reverse order. If the process dies in the middle, another worker goes
on where this one stopped, with the bookings and also with the cancelling.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from resonate import Context, Resonate
from resonate.retry_policies import Never

resonate = Resonate()


class SoldOut(Exception):
    """Nothing is left to book."""


def book_flight(ctx: Context, trip: str) -> str:
    print(f"  flight to {trip} booked")
    return f"flight-{trip}"


def cancel_flight(ctx: Context, booking: str) -> None:
    print(f"  {booking} cancelled")


def book_hotel(ctx: Context, trip: str) -> str:
    print(f"  hotel in {trip} booked")
    return f"hotel-{trip}"


def cancel_hotel(ctx: Context, booking: str) -> None:
    print(f"  {booking} cancelled")


def book_car(ctx: Context, trip: str) -> str:
    if trip == "Venice":
        raise SoldOut("no cars in Venice")
    print(f"  car in {trip} booked")
    return f"car-{trip}"


def cancel_car(ctx: Context, booking: str) -> None:
    print(f"  {booking} cancelled")


Step = Callable[[Context, str], Any]

BOOKINGS: list[tuple[Step, Step]] = [
    (book_flight, cancel_flight),
    (book_hotel, cancel_hotel),
    (book_car, cancel_car),
]


@resonate.register
def book_trip(ctx: Context, trip: str) -> Generator[Any, Any, str]:
    undo: list[tuple[Step, str]] = []
    try:
        for book, cancel in BOOKINGS:
            booking = yield ctx.run(book, trip).options(retry_policy=Never())
            undo.append((cancel, booking))
    except SoldOut as error:
        for cancel, booking in reversed(undo):
            yield ctx.run(cancel, booking)
        return f"trip to {trip} not possible: {error}"
    return f"trip to {trip} booked"


if __name__ == "__main__":
    print(resonate.run("trip-1", book_trip, "Lisbon"))
    print(resonate.run("trip-2", book_trip, "Venice"))
