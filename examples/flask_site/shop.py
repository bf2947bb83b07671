import time

from flask import Flask, request

app = Flask(__name__)


@app.get("/")
def index() -> str:
    return f"Hello from Flask, {request.args.get('name', 'stranger')}!\n"


@app.get("/slow")
def slow() -> str:
    time.sleep(0.2)  # waits, and the worker serves others meanwhile
    return "done\n"
