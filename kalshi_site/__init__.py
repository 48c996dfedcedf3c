"""The project: settings, wiring and what every app stands on.

The standard `sqlite3` of many systems is older than 3.51.3 and has the WAL-reset corruption race (RELIABILITY.md 2.1),
so its name is given to the newer build here, before Django loads its database driver.
"""

import sys

try:
    import pysqlite3
    from pysqlite3 import dbapi2 as _dbapi2
except ImportError:
    # No wheel for this platform: the standard module, with the warning kalshi.W805; paper only.
    SQLITE_BUILD = "standard"
else:
    SQLITE_BUILD = "pysqlite3"
    sys.modules["sqlite3"] = pysqlite3
    sys.modules["sqlite3.dbapi2"] = _dbapi2
