"""A context ends, or is left behind: nobody waits for it for ever."""

import logging

import pytest
import zmq

from transfer.contexts import end


def test_a_context_whose_sockets_are_closed_ends() -> None:
    context = zmq.Context()
    context.socket(zmq.DEALER).close(linger=0)
    end(context)
    assert context.closed


def test_one_that_does_not_end_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    context = zmq.Context()
    still_open = context.socket(zmq.DEALER)
    with caplog.at_level(logging.WARNING):
        end(context, seconds=0.1)
    assert "is left behind" in caplog.text
    still_open.close(linger=0)
