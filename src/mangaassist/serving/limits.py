"""A limit on request bodies that holds for announced and for streamed ones, before anything is parsed."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """ASGI middleware: more than ``most_bytes`` of body is a 413."""

    def __init__(self, app: ASGIApp, *, most_bytes: int) -> None:
        self._app = app
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            # Raised where the body is read, so that the application's own error shape applies.
            if seen > self._most_bytes or int(announced) > self._most_bytes:
                raise HTTPException(413, f"more than {self._most_bytes} bytes")
            return message

        await self._app(scope, counted, send)
