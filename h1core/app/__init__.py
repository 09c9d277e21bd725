"""What an application looks like to the server: handlers, WSGI (PEP 3333) and ASGI 3."""
