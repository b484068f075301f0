"""Run and watch Cloudera Machine Learning jobs from Apache Airflow.

Airflow imports this module in every process it starts, to ask for the metadata below: nothing else may happen here.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def get_provider_info() -> dict[str, Any]:
    """What Airflow wants to know about this provider; entry point `apache_airflow_provider`.

    `package-name` is the name of the distribution, to the letter: any other makes Airflow's discovery of all providers
    fail, and with it every command (Airflow 3.3, `discover_all_providers_from_packages`).
    """
    from airflow_provider_cml.connection import CONNECTION_TYPE, connection_type  # noqa: PLC0415 - see above

    integration = "Cloudera Machine Learning"
    return {
        "package-name": "airflow-provider-cml",
        "name": integration,
        "description": "Run and watch `Cloudera Machine Learning <https://docs.cloudera.com/machine-learning>`__ jobs.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": integration,
                "external-doc-url": "https://docs.cloudera.com/machine-learning/cloud/api/topics/ml-api-v2.html",
                "tags": ["service"],
            }
        ],
        "connection-types": [connection_type()],
        **{
            kind: [
                {"integration-name": integration, "python-modules": [f"airflow_provider_cml.{kind}.{CONNECTION_TYPE}"]}
            ]
            for kind in ("hooks", "operators", "sensors")
        },
        "triggers": [
            {
                "integration-name": integration,
                "python-modules": [f"airflow_provider_cml.triggers.{name}" for name in ("cml", "event")],
            }
        ],
        "extra-links": ["airflow_provider_cml.links.cml.CmlJobRunLink"],
        "config": {
            "cml": {
                "description": "Cloudera Machine Learning provider.",
                "options": {
                    "deployment": {
                        "description": (
                            "The name of this Airflow in the key that every start carries, so that two deployments "
                            "with equal DAGs do not take each other's runs for their own. Empty: derived from "
                            "[api] base_url."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "production",
                        "default": "",
                    }
                },
            }
        },
    }
