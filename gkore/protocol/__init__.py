"""The bottom room: bytes in, events or bytes out; and what master and workers say to each other."""
