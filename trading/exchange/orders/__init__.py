"""The order endpoints (API.md 11), the only place from which an order can go out. Only `trading.execution` imports it.

Nothing here is ever repeated. A create has two steps, so that the bytes can be stored and hashed before the commit
that allows the send: `create_body`, then `send_create`, which returns what is proven (RELIABILITY.md 3.1, step 4):

    Accepted   201 with an order id, our own id echoed, counts within what was sent
    Refused    a 4xx whose code is on the allow-list of proven refusals (`errors.PROVEN_REFUSALS`)
    NotSent    no connection, no budget, or too late: no byte was written
    Unknown    everything else

Amends, decreases, batches and order groups end the same way; of a batch each item by itself.
"""

from trading.exchange.orders.bodies import STOP_AT_OWN_ORDER, amend_body, batch_body, create_body
from trading.exchange.orders.client import ORDERS, Orders, open_orders
from trading.exchange.orders.groups import OrderGroups, open_order_groups
from trading.exchange.targets import CancelTarget

__all__ = [
    "ORDERS",
    "STOP_AT_OWN_ORDER",
    "CancelTarget",
    "OrderGroups",
    "Orders",
    "amend_body",
    "batch_body",
    "create_body",
    "open_order_groups",
    "open_orders",
]
