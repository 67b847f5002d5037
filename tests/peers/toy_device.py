#!/usr/bin/python3
"""A plug-in for rotation (docs/rotation-plugin.md): a device whose password stands in a file of the plug-in's own folder.

Until it was changed once it takes any password that begins as `settings.first` says.
"""

import json
import pathlib
import sys

question = json.loads(sys.stdin.readline())
kept = pathlib.Path("password")


def takes(password: str) -> bool:
    return password == kept.read_text() if kept.exists() else password.startswith(question["settings"]["first"])


answer = "denied"
if question["operation"] == "verify":
    answer = "opens" if takes(question["current"]) else "refused"
elif question["operation"] == "change":
    answer = "done" if takes(question["current"]) else "refused"
    if answer == "done":
        kept.write_text(question["candidate"])
print(json.dumps({"protocol": 1, "result": answer, "message": "a toy"}))
