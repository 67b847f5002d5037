"""Holds the write lock of the SQLite database that a configuration names: python lock_sqlite.py CONFIG"""

import pathlib
import sqlite3
import sys
import time
import tomllib

config = pathlib.Path(sys.argv[1])
url = tomllib.loads(config.read_text())["store"]["url"]
database = sqlite3.connect(config.parent / url.removeprefix("sqlite:"), timeout=30, isolation_level=None)
database.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(120)
