"""The analyst: a market brief in, an idea or nothing out. Plain Python; it reaches neither execution nor any key."""
