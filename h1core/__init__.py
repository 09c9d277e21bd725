"""An HTTP/1.1 server whose every decision is made by a pure state machine."""
