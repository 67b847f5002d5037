"""Logs in with asyncssh by key and code, and runs commands on many channels of one connection at once.

python asyncssh_session.py HOST PORT USER KEY CHANNELS
"""

import asyncio
import sys

import asyncssh
from person import fresh_code


class Person(asyncssh.SSHClient):
    def kbdint_auth_requested(self):
        return ""

    def kbdint_challenge_received(self, name, instructions, lang, prompts):
        return [fresh_code() for _ in prompts]


async def main() -> None:
    host, port, user, key, channels = sys.argv[1:]
    options = dict(username=user, client_keys=[key], known_hosts=None, config=None, agent_path=None)
    connection, _ = await asyncssh.create_connection(Person, host, int(port), **options)
    async with connection:

        async def one(number: int) -> None:
            done = await connection.run(f"echo channel {number}; exit {number}", timeout=60)
            assert done.stdout == f"channel {number}\n", done.stdout
            assert done.exit_status == number, done.exit_status

        await asyncio.gather(*(one(number) for number in range(int(channels))))
    print("asyncssh: done")


asyncio.run(main())
