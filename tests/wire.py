"""Answers as a client reads them."""

from h1core.testing.answers import Answer, answers

__all__ = ["Answer", "answers", "statuses"]


def statuses(wire: bytes | bytearray, *methods: str) -> list[int]:
    return [answer.status for answer in answers(wire, *methods)]
