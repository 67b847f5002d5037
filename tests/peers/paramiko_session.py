"""Logs in with paramiko by key and code, runs a command, and carries a file there and back.

python paramiko_session.py HOST PORT USER KEY LOCAL_FILE REMOTE_FILE
"""

import sys

import paramiko
from person import logged_in

host, port, user, key, local, remote = sys.argv[1:]
transport = logged_in(host, port, user, key)

channel = transport.open_session(timeout=30)
channel.exec_command("echo to-stdout; echo to-stderr >&2; exit 7")
assert channel.makefile().read() == b"to-stdout\n"
assert channel.makefile_stderr().read() == b"to-stderr\n"
assert channel.recv_exit_status() == 7

sftp = paramiko.SFTPClient.from_transport(transport)
sftp.put(local, remote)
with open(local, "rb") as sent, sftp.open(remote, "rb") as returned:
    assert sent.read() == returned.read()
sftp.remove(remote)
transport.close()
print("paramiko: done")
