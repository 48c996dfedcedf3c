"""Addresses of proposals."""

from django.urls import path

from approvals import views

urlpatterns = [
    path("approvals", views.queue, name="approvals"),
    path("approvals/<str:public_id>", views.proposal, name="proposal"),
    path("approvals/<str:public_id>/approve", views.approve, name="proposal-approve"),
    path("approvals/<str:public_id>/decline", views.decline, name="proposal-decline"),
]
