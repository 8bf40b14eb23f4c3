"""GenView: adaptive, quality-weighted generated views for representation learning.

The package follows the study, stage by stage: ``data``, ``foreground``, ``guidance``, ``conditions``,
``generation``, ``training``, ``evaluation``, ``report``. A stage imports only the stages before it.
"""

__version__ = "0.1.0"
