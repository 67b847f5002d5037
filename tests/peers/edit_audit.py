"""Changes one word in the middle of the audit table of a stopped gateway: python edit_audit.py CONFIG"""

import pathlib
import sqlite3
import sys
import tomllib

config = pathlib.Path(sys.argv[1])
url = tomllib.loads(config.read_text())["store"]["url"]
with sqlite3.connect(config.parent / url.removeprefix("sqlite:")) as database:
    (count,) = database.execute("SELECT count(*) FROM audit").fetchone()
    changed = database.execute(
        "UPDATE audit SET actor = 'nobody' WHERE seq = (SELECT seq FROM audit ORDER BY seq LIMIT 1 OFFSET ?)", (count // 2,)
    ).rowcount
assert changed == 1, changed
