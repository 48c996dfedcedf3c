#!/usr/bin/env python
"""Every command of the desk: `manage.py help` lists them, `manage.py up` starts everything."""

import os
import sys


def main() -> int:
    """Run one command. A setting that cannot be read ends it with its code and exit status 2."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kalshi_site.settings")
    from django.core.management import execute_from_command_line

    from kalshi_site.env import ConfigError

    try:
        execute_from_command_line(sys.argv)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
