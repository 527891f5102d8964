"""Alertmanager's configuration: who is told of alerts, and where the secrets of that lie."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Literal, get_args

from monitoring.rules.form import dump

Receiver = Literal["slack", "pagerduty", "webhook"]
RECEIVERS: Sequence[Receiver] = get_args(Receiver)

HEAD = """\
# Made by `python -m monitoring.write`; change monitoring/alerting.py instead.
# The files under secrets/ hold a line each: slack (its webhook's URL), pagerduty (integration key), webhook (a URL).
"""

_SECTIONS: Mapping[Receiver, Mapping[str, Any]] = {
    "slack": {
        "slack_configs": [
            {
                "api_url_file": "secrets/slack",
                "send_resolved": True,
                "title": "{{ .CommonLabels.alertname }}",
                "text": "{{ range .Alerts }}{{ .Annotations.summary }} ({{ .Annotations.runbook_url }}) {{ end }}",
            }
        ]
    },
    "pagerduty": {
        "pagerduty_configs": [
            {
                "routing_key_file": "secrets/pagerduty",
                "severity": "{{ .CommonLabels.severity }}",
                "description": "{{ .CommonLabels.alertname }}: {{ (index .Alerts 0).Annotations.summary }}",
            }
        ]
    },
    "webhook": {"webhook_configs": [{"url_file": "secrets/webhook", "send_resolved": True}]},
}


def alertmanager(receivers: Sequence[Receiver]) -> str:
    """`alertmanager.yml`. Critical alerts go to all that are named; others don't wake whom PagerDuty wakes."""
    calm = [name for name in receivers if name != "pagerduty"]
    return HEAD + dump(
        {
            "route": {
                "receiver": "calm",
                "group_by": ["alertname", "deployment"],
                "group_wait": "30s",
                "group_interval": "5m",
                "repeat_interval": "4h",
                "routes": [{"receiver": "urgent", "matchers": ['severity="critical"']}],
            },
            "inhibit_rules": [
                # Who burns the budget fast burns it slowly, too.
                {
                    "source_matchers": ['alertname="StokerSloBurnsFast"'],
                    "target_matchers": ['alertname="StokerSloBurnsSlowly"'],
                }
            ],
            "receivers": [_receiver("urgent", receivers), _receiver("calm", calm)],
        }
    )


def _receiver(name: str, receivers: Sequence[Receiver]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name}
    for receiver in receivers:
        found |= deepcopy(_SECTIONS[receiver])  # else YAML would write the second as a reference
    return found
