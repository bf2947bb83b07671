"""After fork: the only room that imports gevent."""
