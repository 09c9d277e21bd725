"""The interfaces between the server and an application: handlers, WSGI (PEP 3333) and ASGI 3."""
