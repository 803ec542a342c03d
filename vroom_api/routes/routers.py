"""Routers whose paths may take several methods, each by a handler of its own."""

from litestar import Router
from litestar.types.internal_types import RouteHandlerMapItem


class PathRouter(Router):
    """A router that answers OPTIONS with every method of a path.

    Litestar makes the answer to OPTIONS with the first handler of a path and keeps it when others join, so it would name that
    one's methods alone. Without it among the handlers a new one is made, of all that the path has then.
    """

    @property
    def route_handler_method_map(self) -> dict[str, RouteHandlerMapItem]:
        return {
            path: {method: handler for method, handler in handlers.items() if method != "OPTIONS"}
            for path, handlers in super().route_handler_method_map.items()
        }
