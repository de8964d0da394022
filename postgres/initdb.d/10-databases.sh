#!/usr/bin/env bash
# Runs once, on an empty volume: a role and a database each for Airflow's
# metadata and for analytics; neither role can enter the other's database.
# psql reads the passwords from the environment, so none stands on an argv.
set -euo pipefail

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv airflow_user AIRFLOW_DB_USER
\getenv airflow_password AIRFLOW_DB_PASSWORD
\getenv airflow_db AIRFLOW_DB_NAME
\getenv analytics_user POSTGRES_ANALYTICS_USER
\getenv analytics_password POSTGRES_ANALYTICS_PASSWORD
\getenv analytics_db POSTGRES_ANALYTICS_DB

create role :"airflow_user" login password :'airflow_password';
create database :"airflow_db" owner :"airflow_user";
revoke connect on database :"airflow_db" from public;

create role :"analytics_user" login password :'analytics_password';
create database :"analytics_db" owner :"analytics_user";
revoke connect on database :"analytics_db" from public;
SQL
