"""How alembic runs our migrations: inside the connection and the transaction that `coderl_store.schema` hands over.

Logging is left as the application set it up, nothing is printed, and offline SQL scripts are not supported.
"""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
