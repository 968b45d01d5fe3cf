"""Resources: parts of the URL space, where aiohttp's own are slower than they need be."""

from __future__ import annotations

from typing import Final

from aiohttp import web

_ANY: Final[set[str]] = {"*"}


class Below(web.PlainResource):
    """Everything below a path, for one handler; found by comparing strings, not by a regular expression.

    path: without a slash at its end.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._prefix = path + "/"

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        """The handler, whatever the method, if the request's path goes on below this one."""
        path = request.rel_url.path
        if len(path) <= len(self._prefix) or not path.startswith(self._prefix):
            return None, set()
        return web.UrlMappingMatchInfo({}, next(iter(self))), _ANY
