"""What the fleet knows: pieces of knowledge, their words and their vectors; a wall for each tenant.

`octarm_memory` is the role in which the service reads and writes them. It sees the rows of the
tenant that the transaction has named in `octarm.tenant`, and no others. The functions run as
their owner, because a policy keeps the index of words from being used (`@@` is not leakproof),
and take the tenant from the same place, never from a parameter.
"""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    folder = Path(__file__).with_name("semantic")
    for name in ("tables", "walls", "spaces", "candidates"):
        op.execute((folder / f"{name}.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    op.execute(
        """
        drop function memory.candidates, memory.words_of, memory.space_of, memory.learn_words;
        drop table memory.semantic, memory.reembedding, memory.space, memory.word, memory.audit;
        """
    )
