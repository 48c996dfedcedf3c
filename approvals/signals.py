"""One project signal: an approved proposal waits for execution. The receiver only wakes it; the scan would find it anyway."""

from django.dispatch import Signal

proposal_approved = Signal()  # sent after the commit, with `proposal_id`
