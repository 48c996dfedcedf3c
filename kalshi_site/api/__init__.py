"""What every door of the REST API has in common: who calls, what he may, how often, and how a refusal reads.

The rooms' views know none of this: they are plain views that state their `rights`, and the settings name these classes.
"""
