#!/usr/bin/python3
"""A plug-in for rotation (docs/rotation-plugin.md): a device that is asked by lines over TCP, `verify PASSWORD` and
`change OLD NEW`, and answers `yes` or `no`."""

import json
import socket
import sys

question = json.loads(sys.stdin.readline())
words = {
    "verify": ["verify", question["current"]],
    "change": ["change", question["current"], question["candidate"]],
}.get(question["operation"])
result = "denied"
if words:
    with socket.create_connection((question["host"], question["port"]), timeout=10) as device:
        device.sendall((" ".join(words) + "\n").encode())
        yes = device.makefile().readline().strip() == "yes"
    result = {"verify": "opens", "change": "done"}[question["operation"]] if yes else "refused"
print(json.dumps({"protocol": 1, "result": result, "message": "it says so"}))
