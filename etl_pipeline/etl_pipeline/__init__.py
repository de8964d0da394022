"""OpenDental (MariaDB/MySQL) → Postgres schema `raw`, importable and runnable without Airflow."""
