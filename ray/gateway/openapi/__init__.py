"""The description of the HTTP interface (OpenAPI 3.1), made of the declarations that the routes work with.

It is made when it is first asked for: a gateway that nobody asks pays nothing for it.
"""

from ray.gateway.openapi.document import openapi_document

__all__ = ["openapi_document"]
