"""The page: layout, handlers of its events, controller of a collection, API and server."""
