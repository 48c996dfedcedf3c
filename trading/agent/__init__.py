"""The analyst: a market brief in, an idea or nothing out. Plain Python; it cannot reach execution or an exchange key."""
