"""What a pipelined request costs where coroutines answer, counted in calls of Python functions."""

from collections.abc import Callable

import pytest

from h1core import Request, Response
from h1core.testing import Client

from .test_selectors_cost import calls

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def hello(request: Request) -> Response:
    return Response(200, (), b"hello")


@pytest.mark.parametrize("driver", ["asyncio", "trio"])
def test_a_pipelined_request_costs_no_more_than_one_by_itself(driver: str) -> None:
    """The next one is begun as the last one ends, without a turn of its own."""
    with Client(hello, driver=driver) as client:
        peer = client.connect()

        def exchange(count: int) -> Callable[[], None]:
            def work() -> None:
                peer.send(GET * count)
                client.wait(0)

            return work

        exchange(20)()
        of_one, of_ten, of_twenty = (calls(exchange(count)) for count in (1, 10, 20))
        assert len(list(peer.answers())) == 51
    assert (of_twenty - of_ten) / 10 <= of_one
