"""Addresses of markets, orders, the ways out, and of a proposal's repeat."""

from django.urls import path

from trading import views

urlpatterns = [
    path("markets", views.markets, name="markets"),
    path("markets/<str:ticker>", views.market, name="market"),
    path("orders", views.orders, name="orders"),
    path("orders/cancel-all", views.cancel_all, name="orders-cancel-all"),
    path("orders/<str:public_id>", views.order, name="order"),
    path("orders/<str:public_id>/cancel", views.cancel, name="order-cancel"),
    path("orders/<str:public_id>/decrease", views.decrease, name="order-decrease"),
    path("positions/<str:ticker>/close", views.close, name="position-close"),
    path("approvals/<str:public_id>/again", views.propose_again, name="proposal-again"),
]
