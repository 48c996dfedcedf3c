from django.db import migrations, models
from django.db.models import Max


def remember(apps, schema_editor):
    """The last stop of each scope, from its history."""
    for row in apps.get_model("portfolio", "TradingState").objects.filter(halted_epoch__gt=0):
        stops = apps.get_model("portfolio", "TradingStateEvent").objects.filter(
            trading_state=row, to_state="HALTED"
        )
        row.halted_at = stops.aggregate(last=Max("at"))["last"]
        row.save(update_fields=["halted_at"])


class Migration(migrations.Migration):
    dependencies = [
        ("portfolio", "0005_trading_states_name_a_build"),
    ]

    operations = [
        migrations.AddField(
            model_name="tradingstate",
            name="halted_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.RunPython(remember, migrations.RunPython.noop),
    ]
