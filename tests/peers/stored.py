"""Does to a gateway's SQLite database what the store itself never does: python stored.py CONFIG ACT [SESSION]

a-year-passes   the session ended a year and a day ago
forge-deletion  the recording of the session seems to have been deleted by two people
unerase         a crash came between the deletions and the files
"""

import pathlib
import sqlite3
import sys
import tomllib

ACTS = {
    "a-year-passes": f"UPDATE session SET ended_at = ended_at - {366 * 86_400 * 1_000_000} WHERE id = :session",
    "forge-deletion": "UPDATE recording SET deleted_at = 1, deletion = (SELECT id FROM recording_deletion), "
    "requested_by = 'ivan', approved_by = 'ada' WHERE session = :session",
    "unerase": "UPDATE recording SET erased_at = NULL WHERE :session = '' AND erased_at IS NOT NULL",
}

config, act, session = pathlib.Path(sys.argv[1]), sys.argv[2], (sys.argv[3:] or [""])[0]
url = tomllib.loads(config.read_text())["store"]["url"]
database = sqlite3.connect(config.parent / url.removeprefix("sqlite:"), timeout=20)
with database:
    changed = database.execute(ACTS[act], {"session": session}).rowcount
database.close()
assert changed >= 1, changed
