"""Drives a program on a terminal: python drive.py STEPS -- PROGRAM ARGUMENT…

STEPS is a JSON list of [regular expression, answer] pairs, done in order; an answer of "@password" or "@code" is
taken from the environment, as in askpass. Prints what the terminal showed, and exits as the program did.
"""

import json
import os
import sys

import pexpect
from person import fresh_code


def answer(text: str) -> str:
    if text == "@password":
        return os.environ["COFFERDAM_PASSWORD"] + "\r"
    if text == "@code":
        return fresh_code() + "\r"
    return text


def main() -> int:
    steps, dashes, *command = sys.argv[1:]
    assert dashes == "--", __doc__
    child = pexpect.spawn(command[0], command[1:], timeout=40, dimensions=(30, 100), encoding="utf-8", codec_errors="replace")
    child.delaybeforesend = None
    child.logfile_read = sys.stdout
    for pattern, reply in json.loads(steps):
        found = child.expect([pattern, pexpect.EOF, pexpect.TIMEOUT])
        if found != 0:
            print(f"\n[drive: no {pattern!r} before {'the end' if found == 1 else 'the time-out'}]", flush=True)
            child.close(force=True)
            return 97
        if reply:
            child.send(answer(reply))
    if child.expect([pexpect.EOF, pexpect.TIMEOUT]) != 0:
        print("\n[drive: the program did not end]", flush=True)
        child.close(force=True)
        return 98
    child.close()
    sys.stdout.flush()
    return child.exitstatus if child.exitstatus is not None else 128 + (child.signalstatus or 0)


sys.exit(main())
