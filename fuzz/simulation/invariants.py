"""What must hold, by name. A failure says the name, and the sentence."""

from enum import Enum
from typing import ClassVar, NoReturn


class Invariant(Enum):
    """Safety: at every step. Liveness: once the faults are off, or at the end."""

    SEGMENTATION = "how the peer's bytes were cut changes neither the requests nor the refusal"
    REFERENCE = "what is handed out is what was sent: the same requests, bodies and trailers, and nothing invalid"
    IN_ORDER = "each request gets one final response, in the order of the requests, and nothing follows the last"
    READABLE = "independent parsers read every stream of responses, to its end if it ended in order"
    BOUNDED = "what waits in memory stays below the published limits"
    OWING = "who owes something has a deadline, which moves later by progress only, and firing it changes something"
    SLOTS = "connections, slots, sockets and registrations are the same ones"
    APPLICATION = "what was turned away never reaches the application; what reached it gets the application's answer"
    CONTINUE = "100 Continue comes at most once, to a peer that waits for it, before the final response"
    ISOLATION = "what goes wrong in one connection or handler changes no other, and is no bug of the server's"
    DETERMINISM = "the same seed and the same code give the same trace"
    SETTLES = "with the faults off, everything ends or becomes idle, and a fresh client is answered"
    DRAINS = "a drain ends in its time, and leaves nothing behind"
    NO_SPIN = "the loop does not turn without progress"
    NO_VAIN_WAKE = "an idle server wakes up for deadlines only"
    NOT_OVERLOOKED = (
        "nobody sleeps while there is something to do: bytes to read, room to write, a job that has come back"
    )
    CAUSE = "a connection ends for the reason it says, and not before its time"
    GENTLE_END = "who listens to the end hears it: a FIN behind the last response, not a reset"
    CLEAN_UP = "every body of the application is closed, every file given back, every worker released"


class Violation(BaseException):
    """Something does not hold. No Exception, for servers catch those of a connection's turn; and since a worker catches
    everything, the first of a run is also kept here.
    """

    first: "ClassVar[Violation | None]" = None

    def __init__(self, invariant: Invariant, detail: str, lane: int = -1) -> None:
        super().__init__(f"{invariant.name}: {detail}")
        self.invariant = invariant
        self.detail = detail
        self.lane = lane
        Violation.first = Violation.first or self


def violated(invariant: Invariant, detail: str, lane: int = -1) -> NoReturn:
    raise Violation(invariant, detail, lane)
