"""One project signal: an approved proposal waits. The receiver only wakes execution; its scan would find it anyway."""

from django.dispatch import Signal

proposal_approved = Signal()  # sent after the commit, with `proposal_id`
