"""GenView: adaptive, quality-weighted generated views for representation learning.

The package follows the study, stage by stage: ``data``, ``foreground``, ``guidance``, ``conditions``,
``generation``, ``training``, ``evaluation``, ``report``. A stage imports only the stages before it.
"""

from pathlib import Path

# In a file of its own: modules are part of what artifacts are made from, and a release must not re-run them.
__version__ = Path(__file__).with_name("VERSION").read_text(encoding="utf-8").strip()
