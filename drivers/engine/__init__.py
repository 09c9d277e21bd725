"""The engine: the conversation with every client, whatever runs the application."""
