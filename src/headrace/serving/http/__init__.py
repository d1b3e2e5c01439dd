"""Look-ups over HTTP: docs/reference/http.md. It needs the extra ``http``."""

from headrace.serving.http.application import application
from headrace.serving.http.options import ConnectionLimits, HttpOptions, RequestLimits, TlsFiles

__all__ = ["ConnectionLimits", "HttpOptions", "RequestLimits", "TlsFiles", "application"]
