"""Conversations with CML: requests that belong together, each written once for both transports.

`finding` turns names into ids, `starting` starts a run exactly once (with `start`, `posting` and `history`),
`waiting` sees it to its end or stops it.
"""
