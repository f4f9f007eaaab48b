"""Models over HTTP: one queue (:mod:`huayu.serving.engine`) behind every route, page and replica. Imports no torch."""
