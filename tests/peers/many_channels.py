"""Opens session channels on one connection until it is refused, and prints how many were given at once.

python many_channels.py HOST PORT USER KEY WANTED
"""

import sys

import paramiko
from person import logged_in

host, port, user, key, wanted = sys.argv[1:]
transport = logged_in(host, port, user, key)
channels = []
try:
    for _ in range(int(wanted)):
        channels.append(transport.open_session(timeout=30))
except (paramiko.SSHException, EOFError):
    pass
print(len(channels))
transport.close()
