-- Run by the image when its data directory is new. The same roles and rights as `atelier up` makes:
-- atelier_owner owns the database and migrates it; atelier_app, the workers' and the steward's, owns nothing; nor does
-- atelier_api, the API's, which the migration keeps within row-level security.
\getenv owner_password ATELIER_OWNER_PASSWORD
\getenv app_password ATELIER_APP_PASSWORD
\getenv api_password ATELIER_API_PASSWORD

CREATE ROLE atelier_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE atelier_app LOGIN PASSWORD :'app_password';
CREATE ROLE atelier_api LOGIN PASSWORD :'api_password';
CREATE DATABASE atelier OWNER atelier_owner;
REVOKE ALL ON DATABASE atelier, postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE atelier TO atelier_app, atelier_api;

\connect atelier
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT ALL ON SCHEMA public TO atelier_owner;
GRANT USAGE ON SCHEMA public TO atelier_app, atelier_api;
ALTER DEFAULT PRIVILEGES FOR ROLE atelier_owner GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO atelier_app;
ALTER DEFAULT PRIVILEGES FOR ROLE atelier_owner GRANT USAGE, SELECT ON SEQUENCES TO atelier_app;
ALTER DEFAULT PRIVILEGES FOR ROLE atelier_owner GRANT EXECUTE ON FUNCTIONS TO atelier_app;
