"""Handlers of the site that the corpus of raw requests is spoken to."""


def greet(req):
    req.response(200, b"hello")


def echo(req):
    req.response(200, req.body or b"")
