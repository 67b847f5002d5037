#!/usr/bin/env python3
"""Clients that come to the port of desktops as far as TLS, and then crawl: HOST PORT. One says nothing, one says CredSSP byte by
byte, one promises much and never sends it. For each a line: the words, and the seconds until it was hung up on.
"""
import socket
import ssl
import sys
import threading
import time

ASKS = bytes([3, 0, 0, 19, 14, 0xE0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 3, 0, 0, 0])
# A TSRequest with an NTLM Negotiate in it, which is answered where all of it is there.
NEGOTIATE = b"NTLMSSP\0" + bytes([1, 0, 0, 0]) + bytes(24)
TOKEN = bytes([0xA1, len(NEGOTIATE) + 8, 0x30, len(NEGOTIATE) + 6, 0x30, len(NEGOTIATE) + 4, 0xA0, len(NEGOTIATE) + 2, 4])
TOKEN += bytes([len(NEGOTIATE)]) + NEGOTIATE
REQUEST = bytes([0x30, len(TOKEN) + 5, 0xA0, 3, 2, 1, 6]) + TOKEN
# The head of a message as long as may be.
PROMISE = bytes([0x30, 0x82, 0x0F, 0x00])


def crawl(name, host, port, parts, results):
    plain = socket.create_connection((host, port), timeout=60)
    plain.sendall(ASKS)
    plain.recv(64)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    stream = context.wrap_socket(plain)
    begun = time.monotonic()
    stream.settimeout(0.4)
    parts = iter(parts)
    while time.monotonic() - begun < 60:
        try:
            part = next(parts, b"")
            if part:
                stream.sendall(part)
            if stream.recv(4096) == b"":
                break
        except (TimeoutError, ssl.SSLWantReadError):
            continue
        except OSError:
            break
    results[name] = time.monotonic() - begun


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    ways = {
        "silent": [],
        "bytewise": [bytes([byte]) for byte in REQUEST],
        "promising": [PROMISE],
    }
    results = {}
    threads = [
        threading.Thread(target=crawl, args=(name, host, port, parts, results)) for name, parts in ways.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, seconds in results.items():
        print(f"{name} {seconds:.1f}")


if __name__ == "__main__":
    main()
