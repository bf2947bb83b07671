"""Certificates by ACME (RFC 8555): a process of its own that holds the account's key, but no site's.

It is a program of its own, started by the master: nothing of the user's is imported here, and no standard library is
patched. It talks to the CA, answers the CA's challenge, and hands what it gets to the master, who writes it down.
"""
